package primesjob_test

import (
	"strings"
	"testing"

	"cloudmaster/internal/sample/primesjob"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const manyDigits = "340282366920938463463374607431768211456"
	cases := map[string]struct {
		body string
		want primesjob.Job
	}{
		"documented":          {"1|6573", primesjob.Job{ID: "1", N: 6573}},
		"least":               {"0|1", primesjob.Job{ID: "0", N: 1}},
		"ceiling":             {"7|100000000", primesjob.Job{ID: "7", N: primesjob.DefaultCeiling}},
		"line feed":           {"1|6573\n", primesjob.Job{ID: "1", N: 6573}},
		"line ending":         {"1|6573\r\n", primesjob.Job{ID: "1", N: 6573}},
		"zeros in front":      {"001|0006573", primesjob.Job{ID: "001", N: 6573}},
		"id of many digits":   {manyDigits + "|2", primesjob.Job{ID: manyDigits, N: 2}},
		"zeros without bound": {"1|" + strings.Repeat("0", 100) + "5", primesjob.Job{ID: "1", N: 5}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := primesjob.Parse([]byte(c.body), primesjob.DefaultCeiling)
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ body, want string }{
		"empty":            {"", `job is not of the form ID|N: it has no "|"`},
		"abc":              {"abc", `job is not of the form ID|N: it has no "|"`},
		"no N":             {"1|", `job's N is "", not a decimal number`},
		"no ID":            {"|5", `job's ID is "", not a decimal number`},
		"negative":         {"1|-5", `job's N is "-5", not a decimal number`},
		"signed":           {"1|+5", `job's N is "+5", not a decimal number`},
		"zero":             {"1|0", "job's N is 0: the least is 1"},
		"over the ceiling": {"1|100000001", `job's N is "100000001", more than the ceiling of 100000000`},
		"far over":         {"1|99999999999", `job's N is "99999999999", more than the ceiling of 100000000`},
		"past 64 bits":     {"1|99999999999999999999999", "more than the ceiling of 100000000"},
		"fraction":         {"1|5.0", `job's N is "5.0", not a decimal number`},
		"hexadecimal":      {"1|0x10", `job's N is "0x10", not a decimal number`},
		"underscore":       {"1|1_000", `job's N is "1_000", not a decimal number`},
		"space":            {"1| 5", `job's N is " 5", not a decimal number`},
		"other digits":     {"1|٥", `job's N is "٥", not a decimal number`},
		"three parts":      {"1|2|3", `job's N is "2|3", not a decimal number`},
		"two lines":        {"1|2\n\n", `job's N is "2\n", not a decimal number`},
		"ID no number":     {"a|5", `job's ID is "a", not a decimal number`},
		"1 MiB of garbage": {strings.Repeat("\xa7\x00|1", 1<<18), "job of 1048576 bytes: the most is 1024"},
		"invalid UTF-8":    {"1|\xff\xfe", "job is not UTF-8 text"},
		"startup":          {"startup", `it has no "|"`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := primesjob.Parse([]byte(c.body), primesjob.DefaultCeiling)
			wantError(t, err, c.want)
			if got != (primesjob.Job{}) {
				t.Errorf("got %+v beside the error", got)
			}
		})
	}
}

func TestParseHonoursTheCeiling(t *testing.T) {
	t.Parallel()
	if _, err := primesjob.Parse([]byte("1|10"), 10); err != nil {
		t.Errorf("N at the ceiling: %v", err)
	}
	_, err := primesjob.Parse([]byte("1|11"), 10)
	wantError(t, err, "more than the ceiling of 10")
}

func TestJobEncode(t *testing.T) {
	t.Parallel()
	if got, want := string(primesjob.Job{ID: "1", N: 6573}.Encode()), "1|6573"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
}
