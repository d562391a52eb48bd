package loop_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestGarbageOnTheStatusQueue checks that impossible statuses are dropped, that messages that cannot be
// parsed are logged with their beginning, and that the controller goes on.
func TestGarbageOnTheStatusQueue(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(1, 1), func(b *bench) {
		b.grow(1)
		status := func(id, load string, at time.Time) string {
			return fmt.Sprintf(`{"type":"status","instance_id":%q,"state":"active",`+
				`"load_estimate":%s,"timestamp":%q,"sequence":9}`, id, load, at.Format(time.RFC3339Nano))
		}
		unparsable := []string{
			"", "abc", "{", "\xff\xfe", strings.Repeat("x", 100_000), `{"type":"status"}`, "<InstanceStatus/>",
			status(string(first), "NaN", time.Now()), status(string(first), "-1", time.Now()),
			status("", "1", time.Now()),
		}
		dropped := []string{
			status("i-stranger", "1", time.Now()),
			status(string(first), "7", time.Now().Add(time.Hour)),
			status(string(first), "7", time.Now().Add(-time.Hour)),
		}
		for _, body := range append(unparsable, dropped...) {
			b.noError(b.status.Send(t.Context(), []byte(body)))
		}
		b.pass(5 * time.Minute)
		if got := b.log.count("cannot be parsed"); got != len(unparsable) {
			t.Errorf("got %d lines about messages that cannot be parsed, want %d", got, len(unparsable))
		}
		if got := b.log.count(strings.Repeat("x", 201)); got != 0 {
			t.Error("got more than the first 200 bytes in the log")
		}
		backlog, err := b.status.Backlog(t.Context())
		b.noError(err)
		if backlog.Visible+backlog.InFlight > 0 {
			t.Errorf("got %+v, want every message removed", backlog)
		}
		b.wantStates(string(first) + ":active")
		b.wantLaunched(1)
	})
}

// TestALotOfGarbageDoesNotFillTheLog checks that only some of many bad messages are logged, and that the log
// says how many were not.
func TestALotOfGarbageDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(1, 1), func(b *bench) {
		for range 2000 {
			b.noError(b.status.Send(t.Context(), []byte("junk")))
		}
		b.pass(2 * time.Minute)
		b.noError(b.status.Send(t.Context(), []byte("more junk")))
		b.pass(time.Second)
		if got := b.log.count("cannot be parsed"); got != 11 {
			t.Errorf("got %d lines, want 10 in the first minute and one later", got)
		}
		if got := b.log.count("others_since=1990"); got != 1 {
			t.Errorf("got %d lines that account for the 1990 others, want 1", got)
		}
	})
}
