package message_test

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
)

// The two objects of docs/formats.md, byte for byte.
const (
	goldenStatus = `{"type":"status","instance_id":"i-0abc","state":"active","status":"busy","load_estimate":1,` +
		`"address":"10.0.0.7:20808","timestamp":"2026-11-22T10:00:00.123456789Z","sequence":17}`
	goldenLog = `{"type":"log","instance_id":"i-0abc","message":"Processed: 1 6573 primes (65809) in 2",` +
		`"timestamp":"2026-11-22T10:00:02Z","sequence":18}`
)

// ten is in a zone of its own: what is written must not depend on the writer's.
var ten = time.Date(2026, 11, 22, 11, 0, 0, 0, time.FixedZone("CET", 3600))

func sampleStatus() message.Status {
	return message.Status{
		InstanceID: "i-0abc", State: "active", Activity: message.Busy, Load: 1, Address: "10.0.0.7:20808",
		Timestamp: ten.Add(123456789).UTC(), Sequence: 17,
	}
}

func sampleLog() message.Log {
	return message.Log{
		InstanceID: "i-0abc", Text: "Processed: 1 6573 primes (65809) in 2",
		Timestamp: ten.Add(2 * time.Second).UTC(), Sequence: 18,
	}
}

func TestEncodeIsAsDocumented(t *testing.T) {
	t.Parallel()
	inCET := sampleStatus()
	inCET.Timestamp = ten.Add(123456789)
	status, err := message.EncodeStatus(inCET)
	if err != nil {
		t.Fatal(err)
	}
	log, err := message.EncodeLog(sampleLog())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{{string(status), goldenStatus}, {string(log), goldenLog}} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

func TestEncodeLeavesOutWhatIsEmpty(t *testing.T) {
	t.Parallel()
	got, err := message.EncodeStatus(message.Status{InstanceID: "i-0abc", Timestamp: ten})
	want := `{"type":"status","instance_id":"i-0abc","load_estimate":0,"timestamp":"2026-11-22T10:00:00Z","sequence":0}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	idle := sampleStatus()
	idle.Activity, idle.Load, idle.Address, idle.Sequence = message.Idle, 0, "", math.MaxUint64
	odd := sampleLog()
	odd.Text = "two\nlines, \"quotes\", <tags>, ∑ and \x00"
	empty := sampleLog()
	empty.Text = ""
	cases := map[string]message.Message{
		"status": sampleStatus(), "idle status": idle, "log": sampleLog(), "odd text": odd, "empty text": empty,
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := message.ParseStd(encode(t, want))
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("after encode and parse: %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func encode(t *testing.T, m message.Message) []byte {
	t.Helper()
	var body []byte
	var err error
	switch m := m.(type) {
	case message.Status:
		body, err = message.EncodeStatus(m)
	case message.Log:
		body, err = message.EncodeLog(m)
	}
	if err != nil {
		t.Fatalf("%+v does not encode: %v", m, err)
	}
	return body
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*message.Status)
		want   string
	}{
		"no id":         {func(s *message.Status) { s.InstanceID = "" }, "instance_id is missing"},
		"id with space": {func(s *message.Status) { s.InstanceID = "a b" }, `instance_id is "a b", not a name`},
		"id with escape": {
			func(s *message.Status) { s.InstanceID = "a\x1b[2J" }, `instance_id is "a\x1b[2J", not a name`,
		},
		"id with C1":   {func(s *message.Status) { s.InstanceID = "a\u009b" }, `instance_id is "a\u009b", not a name`},
		"id not UTF-8": {func(s *message.Status) { s.InstanceID = "a\xff" }, `instance_id is "a\xff", not a name`},
		"id too long": {
			func(s *message.Status) { s.InstanceID = pool.InstanceID(strings.Repeat("a", 129)) }, "up to 128 bytes",
		},
		"no time": {func(s *message.Status) { s.Timestamp = time.Time{} }, "timestamp is missing"},
		"year 10000 in UTC": {func(s *message.Status) {
			s.Timestamp = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -7200))
		}, "timestamp is in the year 10000"},
		"year 0 in UTC": {func(s *message.Status) {
			s.Timestamp = time.Date(1, 1, 1, 0, 30, 0, 0, time.FixedZone("", 7200))
		}, "timestamp is in the year 0"},
		"load NaN":         {func(s *message.Status) { s.Load = math.NaN() }, "load_estimate is NaN"},
		"load negative":    {func(s *message.Status) { s.Load = -0.5 }, "load_estimate is -0.5"},
		"load infinite":    {func(s *message.Status) { s.Load = math.Inf(1) }, "load_estimate is +Inf"},
		"unknown activity": {func(s *message.Status) { s.Activity = "asleep" }, `status is "asleep", not busy or idle`},
		"too large": {
			func(s *message.Status) { s.Address = strings.Repeat("a", message.MaxSize) }, "the most is 65536",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sampleStatus()
			c.change(&s)
			body, err := message.EncodeStatus(s)
			wantError(t, err, c.want)
			if body != nil {
				t.Errorf("got a body beside the error: %s", body)
			}
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
}

func TestEncodeLogRefuses(t *testing.T) {
	t.Parallel()
	_, err := message.EncodeLog(message.Log{Text: "x", Timestamp: ten})
	wantError(t, err, "encode log message: instance_id is missing")
	_, err = message.EncodeLog(message.Log{InstanceID: "i-0abc", Text: "x"})
	wantError(t, err, "encode log message: timestamp is missing")
}

// What an instance says must not get lost for its length or its bytes.
func TestEncodeLogCutsAndRepairs(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ text, wantPrefix, wantSuffix string }{
		"not UTF-8":          {"a\xff\xfeb", "a\ufffdb", "b"},
		"at the bound":       {strings.Repeat("x", message.MaxText), "x", "x"},
		"over the bound":     {strings.Repeat("x", message.MaxText+1), "x", "x…"},
		"a rune on the edge": {strings.Repeat("∑", message.MaxText), "∑", "∑…"},
		"worst case":         {strings.Repeat("\x01", 1<<20), "\x01", "\x01…"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := sampleLog()
			l.Text = c.text
			m, err := message.ParseStd(encode(t, l))
			if err != nil {
				t.Fatal(err)
			}
			got := m.(message.Log).Text
			if !strings.HasPrefix(got, c.wantPrefix) || !strings.HasSuffix(got, c.wantSuffix) {
				t.Errorf("got %s, want it to begin with %q and end in %q", message.Excerpt([]byte(got)), c.wantPrefix,
					c.wantSuffix)
			}
			if len(got) > message.MaxText || !utf8.ValidString(got) {
				t.Errorf("got %d bytes, valid UTF-8 %t, want at most %d", len(got), utf8.ValidString(got),
					message.MaxText)
			}
		})
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	for _, m := range []message.Message{sampleStatus(), sampleLog()} {
		if got := m.From(); got != "i-0abc" {
			t.Errorf("%T is from %q, want i-0abc", m, got)
		}
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		activity message.Activity
		load     float64
		want     bool
	}{
		"says busy":                   {message.Busy, 0, true},
		"says idle":                   {message.Idle, 0, false},
		"says idle but has load":      {message.Idle, 0.5, false},
		"says nothing, has load":      {"", 0.1, true},
		"says nothing and is at zero": {"", 0, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := message.Status{Activity: c.activity, Load: c.load}
			if got := s.Busy(); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func TestAfter(t *testing.T) {
	t.Parallel()
	farOff := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) // past what nanoseconds in an int64 can count
	cases := map[string]struct {
		at      time.Time
		seq     uint64
		than    time.Time
		thanSeq uint64
		want    bool
	}{
		"later":                     {ten.Add(1), 1, ten, 9, true},
		"earlier":                   {ten, 9, ten.Add(1), 1, false},
		"same time, next":           {ten, 2, ten, 1, true},
		"same time, previous":       {ten, 1, ten, 2, false},
		"the same message":          {ten, 1, ten, 1, false},
		"same time, other zone":     {ten.UTC(), 2, ten, 1, true},
		"than the year 9999":        {ten, 1, farOff, 1, false},
		"the year 9999":             {farOff, 1, ten, 1, true},
		"than the zero time":        {ten, 1, time.Time{}, 0, true},
		"sequence over 63 bits":     {ten, math.MaxUint64, ten, 1, true},
		"than a sequence of 64 bit": {ten, 1, ten, math.MaxUint64, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := message.After(c.at, c.seq, c.than, c.thanSeq); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func TestExcerpt(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ body, want string }{
		"empty":     {"", `""`},
		"text":      {"abc", `"abc"`},
		"garbage":   {"\xff\x00\x1b[2J", `"\xff\x00\x1b[2J"`},
		"all of it": {strings.Repeat("a", 200), `"` + strings.Repeat("a", 200) + `"`},
		"cut":       {strings.Repeat("a", 201), `"` + strings.Repeat("a", 200) + `"… (201 bytes)`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := []byte(c.body)
			if got := message.Excerpt(body); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if !bytes.Equal(body, []byte(c.body)) {
				t.Error("Excerpt changed its argument")
			}
		})
	}
}

// TestDraining: it is one of the states, in every format; parsers of earlier releases take any state.
func TestDraining(t *testing.T) {
	t.Parallel()
	body, err := message.EncodeStatus(message.Status{InstanceID: "i-1", State: message.Draining, Timestamp: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	const at = `"timestamp":"2026-11-22T10:00:00Z"`
	const ruby = ":type: status\n:instance_id: i\n:state: :draining\n:load_estimate: 0\n" +
		":timestamp: 2026-11-22 10:00:00 Z"
	for text, want := range map[string]bool{
		string(body): true,
		ruby:         true,
		`{"type":"status","instance_id":"i","state":"draining","load_estimate":0,` + at + `}`: true,
		`{"type":"status","instance_id":"i","state":"active","load_estimate":0,` + at + `}`:   false,
		`{"type":"status","instance_id":"i","load_estimate":0,` + at + `}`:                    false,
	} {
		m, err := message.ParseStd([]byte(text))
		if s, ok := m.(message.Status); err != nil || !ok || s.Interrupted() != want {
			t.Errorf("%s: got %+v, %v, want interrupted %v", text, m, err, want)
		}
	}
}
