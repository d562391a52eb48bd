package loop_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/roster"
)

// byHand is a loop whose passes the test runs one by one, and whose policy decides what the test says.
type byHand struct {
	*loop.Loop

	t       *testing.T
	account *memcloud.Account
	roster  *roster.Roster
	work    *memqueue.Queue
	opts    loop.Options
	decide  func(s *pool.Snapshot) pool.Decision
	lead    func(now time.Time) error // nil: it always leads
	listErr error
	seq     uint64
}

// Decide implements policy.Policy.
func (h *byHand) Decide(s *pool.Snapshot) (pool.Decision, error) {
	if h.decide == nil {
		return pool.Decision{}, nil
	}
	return h.decide(s), nil
}

// Latest lists the cloud now.
func (h *byHand) Latest() inventory.Listing {
	list, err := h.account.Cloud("test").List(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return inventory.Listing{At: time.Now(), Instances: map[pool.Name][]cloud.Instance{"p": list}, Err: h.listErr}
}

// Refresh does nothing, because each list is new.
func (h *byHand) Refresh() {}

// steered runs f on a loop of a pool that has as many instances at first, all of them active and idle.
func steered(t *testing.T, active int, limits pool.Limits, f func(t *testing.T, h *byHand)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		account, err := memcloud.New(memcloud.Options{})
		if err != nil {
			t.Fatal(err)
		}
		h := &byHand{
			t: t, account: account, roster: roster.New("mem", roster.Options{ListLag: time.Second}),
			work: memqueue.New("work", queue.Limits{Visibility: time.Minute}),
		}
		h.opts = loop.Options{
			Image: "image", UserData: func(pool.InstanceID) ([]byte, error) { return []byte("{}"), nil },
			Judge: policy.Judge{
				Policy: h, Limits: limits, Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5},
			},
			PolicyInterval: time.Minute, PollInterval: time.Hour, ReportInterval: time.Hour,
			ActiveSetInterval: time.Hour,
		}
		tokens := 0
		h.Loop = loop.New(h.opts, loop.Ports{
			Pool: "p", Cloud: account.Cloud("test"), Inventory: h, Roster: h.roster, ListLag: time.Second,
			Work: struct{ queue.Queue }{h.work}, Store: memblob.New(), Publishes: true, Now: time.Now,
			Token: func() string { tokens++; return fmt.Sprint("token", tokens) },
			Lead: func(now time.Time) (time.Time, error) {
				if h.lead == nil {
					return time.Time{}, nil
				}
				return time.Time{}, h.lead(now)
			},
		})
		h.decide = func(s *pool.Snapshot) pool.Decision { return pool.Decision{Launch: active - len(s.Instances)} }
		h.step()
		time.Sleep(2 * time.Minute)
		h.roster.Listening(time.Now())
		h.say(message.Idle, h.ids()...)
		h.decide = nil
		h.step()
		f(t, h)
	})
}

// step runs a pass.
func (h *byHand) step() *record.Record { return h.Step(h.t.Context(), time.Now()) }

// say has instances report.
func (h *byHand) say(activity message.Activity, ids ...pool.InstanceID) {
	for _, id := range ids {
		h.seq++
		load := 0.0
		if activity == message.Busy {
			load = 1
		}
		h.roster.Hear(message.Status{
			InstanceID: id, State: "active", Activity: activity, Load: load, Timestamp: time.Now(), Sequence: h.seq,
			Address: "host:1",
		}, time.Now())
	}
}

// ids lists the instances that have not begun to end.
func (h *byHand) ids() (out []pool.InstanceID) {
	for _, in := range h.account.Instances() {
		if in.Phase != cloud.Terminating && in.Phase != cloud.Terminated {
			out = append(out, in.ID)
		}
	}
	return out
}

func (h *byHand) wantCount(when string, want int) {
	h.t.Helper()
	if got := h.ids(); len(got) != want {
		h.t.Errorf("%s: got the instances %v, want %d", when, got, want)
	}
}

// ops lists the cloud's calls of a pass.
func ops(r *record.Record) string {
	var out []string
	for _, c := range r.Calls {
		if op, ok := strings.CutPrefix(c.Op, "cloud."); ok {
			out = append(out, op)
		}
	}
	return strings.Join(out, " ")
}

// surplus are endings of idle instances.
func surplus(ids ...pool.InstanceID) (out []pool.Ending) {
	for _, id := range ids {
		out = append(out, pool.Ending{Instance: id, Cause: pool.IdleSurplus})
	}
	return out
}

func roomy() pool.Limits { return pool.Limits{Maximum: 10, StartLimit: 10, StopLimit: 10, Drain: true} }

// TestLaunchesComeBeforeShutDowns of those that serve well, so that clients find a server meanwhile.
func TestLaunchesComeBeforeShutDowns(t *testing.T) {
	steered(t, 1, roomy(), func(t *testing.T, h *byHand) {
		h.decide = func(*pool.Snapshot) pool.Decision {
			return pool.Decision{Launch: 1, ShutDown: surplus(h.ids()[0])}
		}
		if got := ops(h.step()); !strings.HasPrefix(got, "launch tag") {
			t.Errorf("got the calls %q, want a launch and then the tag of the one that drains", got)
		}
	})
}

// TestDrainsCountTowardsTheStopLimit of the policy interval in which they begin.
func TestDrainsCountTowardsTheStopLimit(t *testing.T) {
	limits := roomy()
	limits.StopLimit = 1
	steered(t, 3, limits, func(t *testing.T, h *byHand) {
		h.decide = func(s *pool.Snapshot) pool.Decision {
			d := pool.Decision{}
			for _, in := range s.Instances {
				if in.State == pool.Active {
					d.ShutDown = append(d.ShutDown, surplus(in.ID)...)
				}
			}
			return d
		}
		drained := 0
		for range 5 {
			h.say(message.Idle, h.ids()...)
			for _, e := range h.step().Endings {
				if e.Act == record.ShutDown {
					drained++
				}
			}
			time.Sleep(time.Second)
		}
		if drained != 1 {
			t.Errorf("got %d drained in one interval, want 1", drained)
		}
	})
}

// draining has all instances drain.
func (h *byHand) draining() {
	h.decide = func(*pool.Snapshot) pool.Decision {
		return pool.Decision{ShutDown: surplus(h.ids()...)}
	}
	h.step()
	h.decide = nil
	time.Sleep(2 * time.Minute) // so that the limits are full again
	h.say(message.Busy, h.ids()...)
	h.step()
}

// takeBack asks for all draining ones to be reactivated.
func takeBack(s *pool.Snapshot) (d pool.Decision) {
	for _, in := range s.Instances {
		if in.State == pool.ShutDown {
			d.Reactivate = append(d.Reactivate, in.ID)
		}
	}
	return d
}

// TestWhatIsLaunchedInsteadIsPaidFor: tags of draining ones cannot be written, so new instances are launched, as many
// as the start limit has left, and no more in the same interval.
func TestWhatIsLaunchedInsteadIsPaidFor(t *testing.T) {
	limits := roomy()
	limits.StartLimit = 3
	steered(t, 2, limits, func(_ *testing.T, h *byHand) {
		h.draining()
		h.opts.Judge.Limits.StartLimit = 1
		h.Change(h.opts)
		h.account.FailAfter(memcloud.OpTag, 0, errAway)
		h.decide = takeBack
		h.step()
		h.wantCount("at the first failure", 2)
		time.Sleep(31 * time.Second)
		for range 5 {
			h.step()
			time.Sleep(time.Second)
		}
		h.wantCount("when it has failed for long", 3)
	})
}

// TestWhatIsLaunchedInsteadFitsUnderTheMaximum together with what is launched anyway.
func TestWhatIsLaunchedInsteadFitsUnderTheMaximum(t *testing.T) {
	limits := roomy()
	limits.Maximum = 4
	steered(t, 2, limits, func(_ *testing.T, h *byHand) {
		h.draining()
		h.account.FailAfter(memcloud.OpTag, 0, errAway)
		h.decide = takeBack
		h.step()
		time.Sleep(31 * time.Second)
		h.decide = func(s *pool.Snapshot) pool.Decision {
			d := takeBack(s)
			d.Launch = 1
			return d
		}
		h.step()
		h.wantCount("when it has failed for long", 4)
	})
}

// TestFailuresToTakeBackThatAreOverDoNotCount: nothing is launched instead because of what failed long ago, if nothing
// had to be taken back since.
func TestFailuresToTakeBackThatAreOverDoNotCount(t *testing.T) {
	steered(t, 1, roomy(), func(_ *testing.T, h *byHand) {
		h.draining()
		h.account.FailAfter(memcloud.OpTag, 0, errAway)
		h.decide = takeBack
		h.step()
		h.decide = nil
		h.step()
		time.Sleep(40 * time.Second)
		h.say(message.Busy, h.ids()...)
		h.decide = takeBack
		h.step()
		h.wantCount("at the first failure since", 1)
	})
}

// TestAnotherAnswerToOneLaunchIsPaidOnce: it was asked for three times with one token.
func TestAnotherAnswerToOneLaunchIsPaidOnce(t *testing.T) {
	limits := roomy()
	limits.StartLimit = 2
	steered(t, 0, limits, func(_ *testing.T, h *byHand) {
		h.decide = func(s *pool.Snapshot) pool.Decision { return pool.Decision{Launch: min(1, 2-len(s.Instances))} }
		h.account.NextError(memcloud.OpLaunch, errAway, errAway)
		for range 50 {
			h.step()
			time.Sleep(time.Second)
		}
		h.wantCount("within one interval", 2)
	})
}

// TestTheLeaseIsAskedForAtTheTimeOfTheActs, and not at that of the beginning of the pass.
func TestTheLeaseIsAskedForAtTheTimeOfTheActs(t *testing.T) {
	steered(t, 1, roomy(), func(t *testing.T, h *byHand) {
		end := time.Now().Add(time.Second)
		h.lead = func(now time.Time) error {
			if now.Before(end) {
				return nil
			}
			return errAway
		}
		h.decide = func(*pool.Snapshot) pool.Decision {
			time.Sleep(2 * time.Second) // observing and deciding take long
			return pool.Decision{Launch: 1}
		}
		if r := h.step(); r.Blind == "" || len(r.Launches) > 0 {
			t.Errorf("got blind %q and launches %v, want none", r.Blind, r.Launches)
		}
	})
}

// TestRequestsGoBackWhenThePoolTakesNoneAnyMore, and none is taken from then on.
func TestRequestsGoBackWhenThePoolTakesNoneAnyMore(t *testing.T) {
	steered(t, 0, pool.Limits{StartLimit: 1, StopLimit: 1}, func(t *testing.T, h *byHand) {
		h.opts.TakesRequests, h.opts.PollInterval = true, time.Second
		h.Change(h.opts)
		h.decide = func(*pool.Snapshot) pool.Decision { return pool.Decision{Launch: 1} } // there is no room
		if err := h.work.Send(t.Context(), []byte("1"), []byte("2")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if r := h.step(); r.Seen.Requests != 2 {
			t.Fatalf("got %d requests, want 2", r.Seen.Requests)
		}
		h.opts.TakesRequests = false
		h.Change(h.opts)
		time.Sleep(2 * time.Second)
		h.step()
		if b, err := h.work.Backlog(context.Background()); err != nil || b.Visible != 2 {
			t.Errorf("got %+v and error %v, want both on the queue", b, err)
		}
	})
}

// TestRewiringTakesTheOptionsThatItIsGiven, and not those of a change before it.
func TestRewiringTakesTheOptionsThatItIsGiven(t *testing.T) {
	steered(t, 0, roomy(), func(t *testing.T, h *byHand) {
		old := h.opts
		old.Retiring = true
		h.Change(old)
		h.Rewire(h.opts, h.work, nil, true)
		if h.step(); h.Retiring() {
			t.Error("got the options of the change before")
		}
	})
}

// TestAnEndIsJudgedByTheNewReading: the last reading showed no work, and there is some now.
func TestAnEndIsJudgedByTheNewReading(t *testing.T) {
	steered(t, 1, roomy(), func(t *testing.T, h *byHand) {
		h.step()
		if err := h.work.Send(t.Context(), []byte("1")); err != nil {
			t.Fatal(err)
		}
		h.decide = func(s *pool.Snapshot) pool.Decision {
			if s.Backlog.Visible > 0 {
				return pool.Decision{}
			}
			return pool.Decision{Stop: surplus(h.ids()...)}
		}
		h.say(message.Idle, h.ids()...)
		r := h.step()
		if h.wantCount("with work", 1); r.Seen.Backlog.Visible != 1 {
			t.Errorf("got %+v seen, want the new reading", r.Seen.Backlog)
		}
	})
}

// TestSilenceThatMayBeOurFaultEndsNobodyWhoWorks: its first stop failed, it found work, and then nothing was heard. It
// is not told again while lists fail, nor while too many others are silent.
func TestSilenceThatMayBeOurFaultEndsNobodyWhoWorks(t *testing.T) {
	steered(t, 4, roomy(), func(_ *testing.T, h *byHand) {
		told, others := h.ids()[0], h.ids()[1:]
		h.account.NextError(memcloud.OpTerminate, cloud.ErrThrottled)
		h.decide = func(*pool.Snapshot) pool.Decision {
			return pool.Decision{Stop: surplus(told)}
		}
		h.say(message.Idle, h.ids()...)
		h.step()
		h.decide = nil
		h.say(message.Busy, told)
		time.Sleep(11 * time.Minute)
		h.step()
		h.wantCount("with all of them silent", 4)
		h.say(message.Idle, others...)
		h.listErr = errAway
		h.step()
		h.wantCount("while lists fail", 4)
		h.listErr = nil
		h.step()
		h.wantCount("when it alone is silent", 3)
		if slices.Contains(h.ids(), told) {
			h.t.Errorf("got %v, want %s ended", h.ids(), told)
		}
	})
}

// TestPassesThatWaitAreGathered, also if a pass begins a little later than it might.
func TestPassesThatWaitAreGathered(t *testing.T) {
	steered(t, 0, roomy(), func(t *testing.T, h *byHand) {
		time.Sleep(time.Second)
		r, last := h.step(), time.Duration(0)
		for range 5 {
			pause := time.Until(r.NotBefore)
			if pause <= last {
				t.Errorf("got a pause of %s after one of %s, want it longer", pause, last)
			}
			last = pause
			time.Sleep(pause + time.Millisecond)
			r = h.step()
		}
	})
}
