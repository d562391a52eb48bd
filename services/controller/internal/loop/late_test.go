package loop_test

import (
	"context"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/report"
)

// kept is what passes have recorded.
type kept struct {
	list []*record.Record
}

// Pass implements report.Sink.
func (r *kept) Pass(_ context.Context, rec *record.Record) { r.list = append(r.list, rec) }

// Intake implements report.Sink.
func (r *kept) Intake(context.Context, *record.Intake) {}

// TestNothingIsBegunWhenTheLeaseRunsOutWhileLooking: who observes for long is asked once more whether it leads, and
// then neither stops anything nor has it on its list of what is to stop.
func TestNothingIsBegunWhenTheLeaseRunsOutWhileLooking(t *testing.T) {
	t.Parallel()
	unstarted(t, jobPool(), func(b *bench) {
		lease, seen := &permit{}, &kept{}
		b.lead, b.sinks = lease.lead, []report.Sink{seen}
		b.workers.setStuck(true) // it speaks by hand
		b.startController()
		b.send(1)
		b.pass(time.Second)
		b.say(first, 1, time.Now(), 1)
		b.pass(time.Second)
		b.takeAway(1)
		b.pass(time.Second)
		b.tap.meanwhile = func() { lease.over.Store(b.tap.times("work.backlog") > 0) }
		b.tap.forget()
		before := len(seen.list)
		b.say(first, 0, time.Now(), 2)
		b.pass(time.Second)
		b.tap.meanwhile = nil
		if !lease.over.Load() {
			t.Error("nobody has looked at the work queue")
		}
		for _, r := range seen.list[before:] {
			if r.Blind == "" || len(r.Endings) > 0 {
				t.Errorf("got blind %q, endings %+v, want nothing begun", r.Blind, r.Endings)
			}
		}
		lease.over.Store(false)
		b.say(first, 1, time.Now(), 3) // it has found work
		b.pass(5 * time.Minute)
		b.wantStates("i-000001:active")
	})
}

// TestAnOldListAnswersNoLaunch: only a list that was asked for late enough shows whether a launch took effect, however
// late it is looked at.
func TestAnOldListAnswersNoLaunch(t *testing.T) {
	t.Parallel()
	unstarted(t, fixedPool(1, 2), func(b *bench) {
		b.listLag = time.Second
		calls := 0
		b.detour = &detour{launch: func(ctx context.Context, next cloud.Cloud, spec cloud.Spec) ([]cloud.Instance,
			error,
		) {
			if calls++; spec.Count > 0 {
				b.tap.breakDown("cloud.list", errAway) // from now on there is only the list from before
			}
			_, _ = next.Launch(ctx, spec)
			return nil, errLost
		}}
		b.startController()
		b.pass(10 * time.Minute)
		b.wantLaunched(1)
		if calls < 2 {
			t.Errorf("got %d calls, want the launch asked for again", calls)
		}
	})
}
