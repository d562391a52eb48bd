package loop_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/pool"
)

// scenario is a story that must have the same end, wherever in it a controller dies.
type scenario struct {
	cfg      poolConfig
	setUp    func(b *bench) // before controllers may die
	story    func(b *bench) // must let time pass with live
	launched int            // instances launched during the story
	states   string         // of the instances at the end
}

func scenarios() map[string]scenario {
	workers := jobPool()
	workers.Blob = true
	watched := servers(2, 2)
	watched.WatchdogInterval, watched.BootDeadline = 2*time.Minute, 2*time.Minute
	return map[string]scenario{
		"jobs": {
			cfg: workers,
			story: func(b *bench) {
				b.send(4)
				b.live(2 * time.Minute)
			},
			launched: 2,
		},
		"servers": {
			cfg: fibPool(),
			story: func(b *bench) {
				b.send(8)
				b.live(90 * time.Second) // the requests of a controller that has died are delivered again
				b.workers.load(first, 0.9)
				b.workers.load(second, 0.9) // so that a third instance is needed
				b.live(50 * time.Second)    // a successor waits for what its predecessor may have launched
				b.workers.load(second, 0.05)
				b.workers.load(first, 0.05)
				b.live(3 * time.Minute) // all but one may go
				b.workers.load("i-000003", 0.9)
				b.workers.load(second, 0.9)
				b.workers.load(first, 0.9)
				b.live(30 * time.Second)
				for _, id := range []pool.InstanceID{first, second, "i-000003"} {
					b.workers.load(id, 0)
				}
				b.live(4 * time.Minute)
			},
			launched: 3,
		},
		"a hung one": {
			cfg: watched,
			setUp: func(b *bench) {
				b.grow(2)
				b.workers.hang(first)
				b.pass(time.Minute + 50*time.Second)
			},
			story:    func(b *bench) { b.live(4 * time.Minute) }, // the next controller counts silence from its start
			launched: 3,
			states:   "i-000002:active i-000003:active",
		},
		"a rollout": {
			cfg:   rolling(2, 3),
			setUp: func(b *bench) { b.grow(2) },
			story: func(b *bench) {
				b.configure("two")
				b.live(8 * time.Minute)
			},
			launched: 4,
			states:   "i-000003:active i-000004:active",
		},
		"a rollout in a pool that drains": {
			cfg:   rollingDrain(),
			setUp: func(b *bench) { b.grow(2) },
			story: func(b *bench) {
				b.configure("two")
				b.live(8 * time.Minute)
			},
			launched: 4,
			states:   "i-000003:active i-000004:active",
		},
		"a rollout without room for a successor": {
			cfg:   crowded(),
			setUp: func(b *bench) { b.grow(2) },
			story: func(b *bench) {
				b.configure("two")
				b.live(8 * time.Minute)
			},
			launched: 4,
			states:   "i-000003:active i-000004:active",
		},
		"a rollout of a bad image, taken back": {
			cfg:   rolling(2, 3),
			setUp: func(b *bench) { b.grow(2) },
			story: func(b *bench) {
				b.configure("bad")
				b.live(2 * time.Minute)
				b.configureAgain("one")
				b.live(8 * time.Minute)
			},
			launched: 3,
			states:   "i-000001:active i-000002:active",
		},
	}
}

// live lets time pass. Three seconds after a controller has died, the next one starts.
func (b *bench) live(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); b.pass(time.Second) {
		if b.tap.isDead() {
			b.stopController()
			b.pass(3 * time.Second)
			b.startController()
		}
	}
}

// TestDeathAtEveryStep tells each story many times, and lets the controller die at another call each time,
// before the call or after its effect. The tap checks what must always be true, and the story must always
// have the same end.
func TestDeathAtEveryStep(t *testing.T) {
	t.Parallel()
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := s.run(t, 0, false)
			if calls < 20 {
				t.Fatalf("got %d calls in the story, want many", calls)
			}
			step := 1
			if testing.Short() {
				step = 7
			}
			for n := 1; n <= calls && !t.Failed(); n += step {
				for _, after := range []bool{false, true} {
					s.run(t, n, after)
				}
			}
			t.Logf("the controller died before and after one call in %d, of %d", step, calls)
		})
	}
}

// run tells the story with a controller that dies at its n-th call, and returns how many calls there were.
func (s *scenario) run(t *testing.T, n int, after bool) (calls int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, s.cfg, bootsIn(2*time.Second))
		defer b.close()
		b.audit, b.listLag = 30*time.Second, 10*time.Second // so that launches are in the journal
		b.startController()
		if s.setUp != nil {
			s.setUp(b)
		}
		b.tap.dieAt(n, after)
		s.story(b)
		calls = b.tap.madeCalls()
		s.checkEnd(b)
		if t.Failed() {
			t.Logf("the controller died at call %d, after its effect: %v", n, after)
		}
	})
	return calls
}

func (s *scenario) checkEnd(b *bench) {
	b.t.Helper()
	b.wantStates(s.states)
	b.wantLaunched(s.launched)
	want := ""
	for _, in := range b.present() {
		want += fmt.Sprintf(" %s", in.ID)
	}
	if got := b.members(); len(want) > 0 && got != want[1:] || want == "" && got != "" {
		b.t.Errorf("in the end the set names %q, want%s", got, want)
	}
	if jobs, times := b.workers.finished(); jobs != times {
		b.t.Errorf("got %d jobs done %d times, want each done once", jobs, times)
	}
	if got := b.work.Bodies(); len(got) != 0 {
		b.t.Errorf("got %v left on the work queue, want nothing", got)
	}
}
