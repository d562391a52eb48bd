package message_test

import (
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/message"
)

const goldenHint = `{"type":"hint","queue":"primes-work-demo","timestamp":"2026-11-22T10:00:00Z"}`

func TestHint(t *testing.T) {
	t.Parallel()
	want := message.Hint{Queue: "primes-work-demo", Timestamp: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	body, err := message.EncodeHint(want)
	if err != nil || string(body) != goldenHint {
		t.Errorf("got %s, %v, want %s", body, err, goldenHint)
	}
	got, err := message.ParseHint([]byte(goldenHint))
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if m, err := message.ParseStd([]byte(goldenHint)); err == nil {
		t.Errorf("got %+v among statuses, want it refused there", m)
	}
}

func TestHintRefused(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for want, h := range map[string]message.Hint{
		"queue is missing":          {Timestamp: at},
		`queue is "a b", not a`:     {Queue: "a b", Timestamp: at},
		"timestamp is missing":      {Queue: "q"},
		"not a name of up to 128":   {Queue: strings.Repeat("q", 129), Timestamp: at},
		"timestamp is in the year ": {Queue: "q", Timestamp: at.AddDate(9000, 0, 0)},
	} {
		if body, err := message.EncodeHint(h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %s, %v, want %q", h, body, err, want)
		}
	}
	for _, body := range []string{
		`{"type":"hint","timestamp":"2026-11-22T10:00:00Z"}`, `{"type":"status"}`, `x`, "",
		strings.TrimSuffix(goldenHint, "}") + strings.Repeat(" ", 1024) + "}",
	} {
		if h, err := message.ParseHint([]byte(body)); err == nil {
			t.Errorf("%s: got %+v, want it refused", body, h)
		}
	}
}
