package message_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/message"
)

var at = time.Date(2008, 10, 22, 14, 0, 0, 0, time.UTC)

func status(change func(*message.Status)) message.Status {
	s := message.Status{InstanceID: "i-0abc", State: "active", Load: 1, Timestamp: at}
	if change != nil {
		change(&s)
	}
	return s
}

func TestParseStdReadsJSON(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		body string
		want message.Message
	}{
		"status": {goldenStatus, sampleStatus()},
		"log":    {goldenLog, sampleLog()},
		"only what is needed": {
			`{"type":"status","instance_id":"i-0abc","load_estimate":0,"timestamp":"2008-10-22T14:00:00Z"}`,
			message.Status{InstanceID: "i-0abc", Timestamp: at},
		},
		"white space around": {
			" \r\n\t" + `{"type":"log","instance_id":"i-0abc","message":"","timestamp":"2008-10-22T14:00:00Z"}` + "\n",
			message.Log{InstanceID: "i-0abc", Timestamp: at},
		},
		"unknown keys are left": {
			`{"type":"status","instance_id":"i-0abc","state":"active","load_estimate":1,"connections":[1],` +
				`"timestamp":"2008-10-22T14:00:00Z"}`,
			status(nil),
		},
		"a time in another zone is read as UTC": {
			`{"type":"status","instance_id":"i-0abc","state":"active","load_estimate":1,` +
				`"timestamp":"2008-10-22T10:00:00-04:00"}`,
			status(nil),
		},
		"load over 1": {
			`{"type":"status","instance_id":"i-0abc","state":"active","load_estimate":1.25e0,` +
				`"timestamp":"2008-10-22T14:00:00Z"}`,
			status(func(s *message.Status) { s.Load = 1.25 }),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantMessage(t, c.want)(message.ParseStd([]byte(c.body)))
		})
	}
}

func wantMessage(t *testing.T, want message.Message) func(message.Message, error) {
	t.Helper()
	return func(got message.Message, err error) {
		t.Helper()
		if err != nil || got != want { // not only by cmp, for which times in two zones are equal
			t.Errorf("got error %v and %v, want %v (-want +got):\n%s", err, got, want, cmp.Diff(want, got))
		}
	}
}

// What YAML.dump writes of a Hash with symbol keys, in Ruby 1.8 (Syck) and later (Psych).
func TestParseStdReadsRubysYAML(t *testing.T) {
	t.Parallel()
	const head = "--- \n:type: status\n:instance_id: i-0abc\n:state: active\n:load_estimate: 1\n:timestamp: "
	cases := map[string]struct {
		body string
		want message.Message
	}{
		"Syck, local time": {
			head + "2008-10-22 10:00:00.250000 -04:00\n",
			status(func(s *message.Status) { s.Timestamp = at.Add(250 * time.Millisecond) }),
		},
		"Syck, UTC": {head + "2008-10-22 14:00:00.000000 Z\n", status(nil)},
		"Psych, local time": {
			head + "2008-10-22 16:00:00.123456789 +02:00\n",
			status(func(s *message.Status) { s.Timestamp = at.Add(123456789) }),
		},
		"Psych, UTC":            {head + "2008-10-22 14:00:00.000000000 Z\n", status(nil)},
		"Time#to_s, local":      {head + "2008-10-22 10:00:00 -0400\n", status(nil)},
		"Time#to_s, UTC":        {head + "2008-10-22 14:00:00 UTC\n", status(nil)},
		"Time#to_s of 1.8":      {head + "Wed Oct 22 10:00:00 -0400 2008\n", status(nil)},
		"Time#to_s of 1.8, UTC": {head + "\"Wed Oct 22 14:00:00 UTC 2008\"\n", status(nil)},
		"Time#xmlschema":        {head + "'2008-10-22T10:00:00-04:00'\n", status(nil)},
		"any order, no dashes, more keys": {
			":timestamp: 2008-10-22 14:00:00 Z\n:connections: 3\n:load_estimate: 0.3\n:state: active\n" +
				":instance_id: i-0abc\n" +
				":type: status",
			status(func(s *message.Status) { s.Load = 0.3 }),
		},
		"symbols as values": {
			"---\n:type: :status\n:instance_id: i-0abc\n:state: :active\n:status: :idle\n:load_estimate: 0\n" +
				":timestamp: 2008-10-22 14:00:00 Z\n",
			status(func(s *message.Status) { s.Load, s.Activity = 0, message.Idle }),
		},
		"all keys": {
			head + "2008-10-22 14:00:00 Z\n:status: busy\n:address: \":20808\"\n:sequence: 17\n",
			status(func(s *message.Status) { s.Activity, s.Address, s.Sequence = message.Busy, ":20808", 17 }),
		},
		"nil is nothing": {head + "2008-10-22 14:00:00 Z\n:status: \n:address: ~\n:sequence: null\n", status(nil)},
		"one string twice": {
			"---\n:type: status\n:instance_id: &1 i-0abc\n:state: active\n:address: *1\n:load_estimate: 1\n" +
				":timestamp: 2008-10-22 14:00:00 Z\n",
			status(func(s *message.Status) { s.Address = "i-0abc" }),
		},
		"a number for an id": {
			"---\n:type: log\n:instance_id: 17\n:message: up\n:timestamp: 2008-10-22 14:00:00 Z\n",
			message.Log{InstanceID: "17", Text: "up", Timestamp: at},
		},
		"log": {
			"--- \n:type: log\n:instance_id: i-0abc\n:message: \"Processed: 1 6573 primes (65809) in 2\"\n" +
				":timestamp: 2008-10-22 14:00:00.000000 Z\n",
			message.Log{InstanceID: "i-0abc", Text: "Processed: 1 6573 primes (65809) in 2", Timestamp: at},
		},
		"log of several lines that begin with a colon": {
			"---\n:type: log\n:instance_id: i-0abc\n:message: |-\n  :first\n  second\n" +
				":timestamp: 2008-10-22 14:00:00.000000 Z\n",
			message.Log{InstanceID: "i-0abc", Text: ":first\nsecond", Timestamp: at},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantMessage(t, c.want)(message.ParseStd([]byte(c.body)))
		})
	}
}

func TestParseStdRefuses(t *testing.T) {
	t.Parallel()
	with := func(old, replacement string) string {
		if !strings.Contains(goldenStatus, old) {
			t.Fatalf("the golden status has no %s", old)
		}
		return strings.Replace(goldenStatus, old, replacement, 1)
	}
	const yaml = ":type: status\n:instance_id: i-0abc\n"
	cases := map[string]struct{ body, want string }{
		"empty":              {"", "message is empty"},
		"white space":        {" \n\t ", "message is empty"},
		"too large":          {strings.Repeat("x", message.MaxSize+1), "message of 65537 bytes: the most is 65536"},
		"1 MiB of garbage":   {strings.Repeat("\xa7\x00|{", 1<<18), "message of 1048576 bytes: the most is 65536"},
		"plain text":         {"abc", "neither JSON nor a YAML mapping"},
		"invalid UTF-8":      {"\xff\xfe\x00a", "neither JSON nor a YAML mapping"},
		"a YAML list":        {"- a\n- b\n", "neither JSON nor a YAML mapping"},
		"half a JSON object": {goldenStatus[:40], "message is not JSON: unexpected end"},
		"text after JSON": {
			goldenStatus + "x", "message is not JSON: invalid character 'x' after top-level value",
		},
		"a JSON list":          {"[" + goldenStatus + "]", "YAML mapping"},
		"NaN":                  {with(`:1,`, `:NaN,`), "message is not JSON: invalid character 'N'"},
		"negative load":        {with(`:1,`, `:-1,`), "load_estimate is -1, not a number from 0 up"},
		"load over all bounds": {with(`:1,`, `:1e999,`), "load_estimate cannot be a JSON number 1e999"},
		"load as a string":     {with(`:1,`, `:"1",`), "load_estimate cannot be a JSON string"},
		"no load":              {with(`"load_estimate":1,`, ``), "load_estimate is missing"},
		"load null":            {with(`:1,`, `:null,`), "load_estimate is missing"},
		"no type":              {with(`"type":"status",`, ``), "type is missing"},
		"unknown type": {
			with(`"type":"status"`, `"type":"gossip"`), `type is "gossip", not status or log`,
		},
		"no id":              {with(`"instance_id":"i-0abc",`, ``), "instance_id is missing"},
		"id not UTF-8":       {with(`i-0abc`, "i-\xff"), "instance_id is"},
		"unknown activity":   {with(`busy`, `asleep`), `status is "asleep", not busy or idle`},
		"no timestamp":       {with(`"timestamp":"2026-11-22T10:00:00.123456789Z",`, ``), "timestamp is missing"},
		"timestamp no time":  {with(`2026-11-22T10:00:00.123456789Z`, `yesterday`), "timestamp: parsing time"},
		"timestamp a number": {with(`"2026-11-22T10:00:00.123456789Z"`, `1`), "timestamp: Time.UnmarshalJSON"},
		"negative sequence":  {with(`:17`, `:-17`), "sequence cannot be a JSON number -17"},
		"log without message": {
			`{"type":"log","instance_id":"i-0abc","timestamp":"2026-11-22T10:00:02Z"}`, "message is missing",
		},
		"log without id": {
			`{"type":"log","message":"","timestamp":"2026-11-22T10:00:02Z"}`, "instance_id is missing",
		},
		"YAML without colons": {"type: status\n", "type is missing"},
		"YAML, key twice":     {yaml + yaml, "already defined"},
		"YAML, load NaN": {
			yaml + ":load_estimate: .nan\n:timestamp: 2008-10-22 14:00:00 Z\n", "load_estimate is NaN",
		},
		"YAML, load infinite": {
			yaml + ":load_estimate: .inf\n:timestamp: 2008-10-22 14:00:00 Z\n", "load_estimate is +Inf",
		},
		"YAML, load negative": {
			yaml + ":load_estimate: -1\n:timestamp: 2008-10-22 14:00:00 Z\n", "load_estimate is -1",
		},
		"YAML, load a word": {yaml + ":load_estimate: high\n", `load_estimate is "high", not a number`},
		"YAML, load nil": {
			yaml + ":load_estimate: \n:timestamp: 2008-10-22 14:00:00 Z\n", "load_estimate is missing",
		},
		"YAML, sequence":       {yaml + ":sequence: -1\n", `sequence is "-1", not a whole number`},
		"YAML, a list":         {yaml + ":status: [busy]\n", "status is not a single value"},
		"YAML, id a mapping":   {":type: status\n:instance_id: {a: b}\n", "instance_id is not a single value"},
		"YAML, message a list": {":type: log\n:message: [a]\n", "message is not a single value"},
		"YAML, no time":        {yaml + ":load_estimate: 1\n", "timestamp is missing"},
		"YAML, not a time":     {yaml + ":timestamp: soon\n", `timestamp is "soon", not a time`},
		"YAML, no zone":        {yaml + ":timestamp: 2008-10-22 14:00:00\n", "not a time with its zone"},
		"YAML, doubtful zone":  {yaml + ":timestamp: 2008-10-22 14:00:00 EDT\n", "not a time with its zone"},
		"YAML, alias bomb":     {bomb(), "message is missing"},
		"YAML, too large": {
			":message: " + strings.Repeat("a", message.MaxYAML),
			"message of 10250 bytes is not JSON: the most for YAML is 10240",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, c.want)(message.ParseStd([]byte(c.body)))
		})
	}
}

// bomb is a document of a few hundred bytes that means 10^9 values.
func bomb() string {
	var b strings.Builder
	b.WriteString(":a: &a [1,1,1,1,1,1,1,1,1]\n")
	for c := 'b'; c < 'k'; c++ {
		b.WriteString(":" + string(c) + ": &" + string(c) + " [*" + strings.Repeat(string(c-1)+",*", 8) + string(c-1) +
			"]\n")
	}
	return b.String() + ":type: log\n<<: *j\n"
}

func wantRefused(t *testing.T, want string) func(message.Message, error) {
	t.Helper()
	return func(got message.Message, err error) {
		t.Helper()
		wantError(t, err, want)
		if got != nil {
			t.Errorf("got %+v beside the error", got)
		}
	}
}

// Errors go to the log, once for each bad message: they must not carry it whole.
func TestParsersErrorsAreShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a\x1b", 20_000)
	bodies := map[string]string{
		"JSON time":      `{"timestamp":"` + strings.Repeat("1", 60_000) + `"}`,
		"JSON number":    `{"load_estimate":1` + strings.Repeat("0", 60_000) + `}`,
		"JSON type":      `{"type":"` + strings.Repeat("t", 60_000) + `"}`,
		"YAML key twice": strings.Repeat("\""+strings.Repeat("k", 30_000)+"\": 1\n", 2),
		"YAML text":      long,
		"XML name":       "<" + strings.Repeat("n", 60_000) + "/>",
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for parser, parse := range message.Parsers() {
				m, err := parse([]byte(body))
				if err == nil {
					t.Fatalf("%s took it: %+v", parser, m)
				}
				if len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\n\x1b") {
					t.Errorf("%s: got an error of %d bytes, want one short line: %.200q", parser, len(err.Error()), err)
				}
			}
		})
	}
}

func lifeguard(id, state, interval, timestamp string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n<InstanceStatus>\n" +
		"  <InstanceId>" + id + "</InstanceId>\n" +
		"  <State>" + state + "</State>\n" +
		"  <LastInterval>" + interval + "</LastInterval>\n" +
		"  <Timestamp>" + timestamp + "</Timestamp>\n</InstanceStatus>\n"
}

func TestParseLifeguard(t *testing.T) {
	t.Parallel()
	busy := status(func(s *message.Status) { s.Activity = message.Busy })
	idle := status(func(s *message.Status) { s.Activity, s.Load = message.Idle, 0 })
	cases := map[string]struct {
		body string
		want message.Message
	}{
		"busy":               {lifeguard("i-0abc", "busy", "PT60S", "2008-10-22T14:00:00Z"), busy},
		"idle":               {lifeguard("i-0abc", "idle", "PT60S", "2008-10-22T14:00:00Z"), idle},
		"anything else":      {lifeguard("i-0abc", "bored", "PT60S", "2008-10-22T14:00:00Z"), idle},
		"white space inside": {lifeguard(" i-0abc\n", "\tbusy ", " PT60S ", "\n2008-10-22T14:00:00Z "), busy},
		"a zone":             {lifeguard("i-0abc", "busy", "PT60S", "2008-10-22T10:00:00.000-04:00"), busy},
		"a long interval":    {lifeguard("i-0abc", "busy", "P0Y0M1W2DT3H4M5.250S", "2008-10-22T14:00:00Z"), busy},
		"no interval":        {lifeguard("i-0abc", "busy", "", "2008-10-22T14:00:00Z"), busy},
		"a namespace": {
			`<InstanceStatus xmlns="urn:x"><InstanceId>i-0abc</InstanceId><State>busy</State>` +
				`<Timestamp>2008-10-22T14:00:00Z</Timestamp><New/></InstanceStatus>`, busy,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantMessage(t, c.want)(message.ParseLifeguard([]byte(c.body)))
		})
	}
}

func TestParseLifeguardRefuses(t *testing.T) {
	t.Parallel()
	const when = "2008-10-22T14:00:00Z"
	cases := map[string]struct{ body, want string }{
		"empty":             {"", "not an InstanceStatus document"},
		"not XML":           {"abc", "not an InstanceStatus document"},
		"JSON":              {goldenStatus, "not an InstanceStatus document"},
		"invalid UTF-8":     {lifeguard("\xff", "busy", "PT1S", when), "invalid UTF-8"},
		"another document":  {"<Status/>", "expected element type <InstanceStatus> but have <Status>"},
		"half a document":   {lifeguard("i-0abc", "busy", "PT1S", when)[:90], "not an InstanceStatus document"},
		"too large":         {strings.Repeat("<", message.MaxSize+1), "message of 65537 bytes: the most is 65536"},
		"no id":             {lifeguard("", "busy", "PT1S", when), "instance_id is missing"},
		"no time":           {lifeguard("i-0abc", "busy", "PT1S", ""), `timestamp is ""`},
		"time without zone": {lifeguard("i-0abc", "busy", "PT1S", "2008-10-22T14:00:00"), "not a time with its zone"},
		"interval in words": {
			lifeguard("i-0abc", "busy", "60s", when), `LastInterval is "60s", not an ISO 8601 duration`,
		},
		"interval P":    {lifeguard("i-0abc", "busy", "P", when), `LastInterval is "P"`},
		"interval PT":   {lifeguard("i-0abc", "busy", "PT", when), `LastInterval is "PT"`},
		"interval P1DT": {lifeguard("i-0abc", "busy", "P1DT", when), `LastInterval is "P1DT"`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, c.want)(message.ParseLifeguard([]byte(c.body)))
		})
	}
}

func TestParsersByName(t *testing.T) {
	t.Parallel()
	parsers := message.Parsers()
	if got, want := slices.Sorted(maps.Keys(parsers)), []string{"lifeguard", "std"}; !slices.Equal(got, want) {
		t.Fatalf("got parsers %q, want %q", got, want)
	}
	wantMessage(t, sampleStatus())(parsers["std"]([]byte(goldenStatus)))
	wantRefused(t, "not an InstanceStatus document")(parsers["lifeguard"]([]byte(goldenStatus)))
}

// The controller must take in 20,000 messages a second: at most 50 µs each, broker included.
func BenchmarkParseStd(b *testing.B) {
	for name, body := range map[string][]byte{
		"json": []byte(goldenStatus),
		"yaml": []byte(":type: status\n:instance_id: i-0abc\n:state: active\n:load_estimate: 1\n" +
			":timestamp: 2008-10-22 10:00:00.250000 -04:00\n"),
		"junk": bytes.Repeat([]byte("\xa7"), 200),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := message.ParseStd(body); (err != nil) != (name == "junk") {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
