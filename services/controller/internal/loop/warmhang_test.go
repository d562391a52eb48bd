package loop_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloudmaster/services/controller/internal/record"
)

// longest is a sink that remembers the longest pass.
type longest struct{ atomic.Int64 }

// Pass implements report.Sink.
func (l *longest) Pass(_ context.Context, r *record.Record) { l.Store(max(l.Load(), int64(r.Took))) }

// Intake implements report.Sink.
func (l *longest) Intake(context.Context, *record.Intake) {}

// TestACloudThatHangsHoldsUpAPassOnce: however many warm instances are to be stopped or started, a pass does not wait
// for each of them. When the cloud answers again, all are done.
func TestACloudThatHangsHoldsUpAPassOnce(t *testing.T) {
	t.Parallel()
	cfg := warmPool(4)
	cfg.StartThreshold, cfg.MinimumLifetime = 1, 2*time.Minute // all may be stopped at the same time
	unstarted(t, cfg, func(b *bench) {
		var hangs atomic.Bool
		var took longest
		b.sinks = append(b.sinks, &took)
		b.detour = &detour{before: func(ctx context.Context) error {
			if hangs.Load() {
				<-ctx.Done()
			}
			return ctx.Err()
		}}
		b.startController()
		b.send(4)
		b.grow(4)
		hangs.Store(true) // while all are to be stopped
		b.pass(10 * time.Minute)
		hangs.Store(false)
		b.fillUp(4)
		b.pass(5 * time.Minute)
		hangs.Store(true) // while all are to be started
		b.send(4)
		b.pass(time.Minute)
		hangs.Store(false)
		b.until("all jobs are done", 10*time.Minute, func() bool { return len(b.work.Bodies()) == 0 })
		b.fillUp(4)
		if got := strings.Count(b.asleep(), ":warm"); got != 4 {
			t.Errorf("got %s stopped, want 4", b.asleep())
		}
		if got := time.Duration(took.Load()); got > 70*time.Second {
			t.Errorf("the longest pass took %s, want about a minute at most", got)
		} else {
			t.Logf("the longest pass took %s", got)
		}
	}, bootsIn(20*time.Second))
}
