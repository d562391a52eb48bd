package message_test

import (
	"strings"
	"testing"

	"cloudmaster/internal/message"
)

func TestOrders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n        int
		absolute bool
		text     string
	}{{5, true, `{"set":5}`}, {0, true, `{"set":0}`}, {1, false, `{"adjust":1}`}, {-3, false, `{"adjust":-3}`}} {
		body := message.EncodeOrder(c.n, c.absolute)
		if string(body) != c.text {
			t.Errorf("encode %d, %v: got %s, want %s", c.n, c.absolute, body, c.text)
		}
		n, absolute, err := message.ParseOrder(body)
		if n != c.n || absolute != c.absolute || err != nil {
			t.Errorf("%s: got %d, %v, %v, want %d, %v", body, n, absolute, err, c.n, c.absolute)
		}
	}
}

func TestBadOrders(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"":                              "not of the form",
		"3":                             "not of the form",
		`{"adjust":"1"}`:                "not of the form",
		`{"adjust":1.5}`:                "not of the form",
		`{"scale":1}`:                   "unknown field",
		`{}`:                            "neither",
		`{"set":null}`:                  "neither",
		`{"set":1,"adjust":1}`:          "both",
		`{"set":-1}`:                    "sets -1",
		`{"set":1000001}`:               "sets 1000001",
		`{"adjust":-1000001}`:           "adjusts by -1000001",
		`{"set":1}{"set":2}`:            "behind the object",
		`{"set":1` + spaces(2000) + `}`: "the most is 1024",
	} {
		if _, _, err := message.ParseOrder([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want it to say %q", body, err, want)
		}
	}
}

func spaces(n int) string { return strings.Repeat(" ", n) }

func FuzzParseOrder(f *testing.F) {
	f.Add([]byte(`{"set":5}`))
	f.Add([]byte(`{"adjust":-1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		n, absolute, err := message.ParseOrder(body)
		if err != nil {
			return
		}
		again, same, err := message.ParseOrder(message.EncodeOrder(n, absolute))
		if err != nil || again != n || same != absolute {
			t.Errorf("%q: got %d, %v, then %d, %v, %v", body, n, absolute, again, same, err)
		}
	})
}
