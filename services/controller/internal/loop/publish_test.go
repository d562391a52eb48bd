package loop_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/pool"
)

// servers returns a pool of servers with a fixed size whose active set is published.
func servers(least, most int) poolConfig {
	p := fixedPool(least, most)
	p.Blob = true
	return p
}

// TestOrderOfPublishing checks that an instance leaves the published set before it is marked or ended, and
// joins it after it is marked.
func TestOrderOfPublishing(t *testing.T) {
	t.Parallel()
	bubble(t, fibPool(), func(b *bench) {
		b.send(8)
		b.grow(2)
		b.until("both drain, for they have no load", 5*time.Minute, func() bool { return b.count(pool.ShutDown) == 2 })
		b.workers.load(second, 0.9)
		b.until("one is drained", 5*time.Minute, func() bool { return b.states() == "i-000002:shut_down" })
		b.send(1)
		b.grow(1) // the draining one is reactivated
		want := []string{
			"cloud.launch 2", "store.put []",
			"cloud.tag active [i-000001 i-000002]", "store.put [i-000001 i-000002]",
			"store.put []", "cloud.tag shut_down [i-000001 i-000002]",
			"cloud.terminate [i-000001]",
			"cloud.tag active [i-000002]", "store.put [i-000002]",
			"cloud.launch 1", "cloud.tag active [i-000003]", // because its load is high
		}
		// Repeated writes, which have newer loads, are left out.
		got := slices.CompactFunc(b.tap.changes(), func(a, b string) bool { return a == b })
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("got\n%q, want\n%q", got, want)
		}
	})
}

func TestJoinsOnlyWhenTaggedActiveAgain(t *testing.T) {
	t.Parallel()
	bubble(t, fibPool(), func(b *bench) {
		b.send(1)
		b.grow(1)
		b.until("it drains", 5*time.Minute, func() bool { return b.count(pool.ShutDown) == 1 })
		b.tap.breakDown("cloud.tag", errAway)
		b.send(1)
		b.pass(5 * time.Second)
		if got := b.members(); got != "" {
			t.Errorf("got %q while its tags say shut_down, want nobody", got)
		}
		b.tap.heal()
		b.pass(15 * time.Second)
		b.wantStates("i-000001:active")
		if got := b.members(); got != string(first) {
			t.Errorf("got %q, want %s", got, first)
		}
	})
}

func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	t.Parallel()
	bubble(t, servers(2, 2), func(b *bench) {
		b.grow(2)
		b.workers.hang(first, second) // so that they report nothing new
		b.pass(2 * time.Minute)
		b.tap.forget()
		b.pass(5 * time.Minute)
		for _, op := range []string{"store.put", "store.get", "cloud.tag"} {
			if got := b.tap.times(op); got != 0 {
				t.Errorf("%s: got %d calls, want none", op, got)
			}
		}
	})
}

func TestLoadsAtMostEveryInterval(t *testing.T) {
	t.Parallel()
	cfg := servers(2, 2)
	cfg.ActiveSetInterval = 5 * time.Second
	bubble(t, cfg, func(b *bench) {
		b.grow(2)
		b.pass(30 * time.Second)
		b.tap.forget()
		for n := range 60 {
			b.workers.load(first, float64(1+n%7)/10)
			b.pass(time.Second)
		}
		if got := b.tap.times("store.put"); got < 11 || got > 13 {
			t.Errorf("got %d writes in a minute of changes, want one every 5s", got)
		}
		b.workers.load(first, 0.33)
		b.pass(6 * time.Second)
		if set, _ := b.set(); set.Instances[0].Load != 0.33 {
			t.Errorf("6 s later: got %+v, want load 0.33", set.Instances[0])
		}
		b.pass(time.Minute) // no list can lack them any more for being late
		b.account.Vanish(second)
		b.pass(b.audit + 100*time.Millisecond)
		if got := b.members(); got != "i-000001 i-000003" {
			t.Errorf("got members %q, want i-000003 in the place of i-000002 at once", got)
		}
	})
}

func TestVersionGrows(t *testing.T) {
	t.Parallel()
	cfg := servers(1, 3)
	cfg.ActiveSetInterval = time.Second
	bubble(t, cfg, func(b *bench) {
		last := 0
		for step, change := range []func(){
			func() { b.grow(1) },
			func() { b.workers.load(first, 0.5) },
			func() { b.restartController(); b.workers.load(first, 0.6) },
			func() {
				b.overwrite(blob.Any, `{"pool":"test","version":2,"instances":[]}`)
				b.workers.load(first, 0.7)
			},
			func() { b.overwrite(blob.Any, `not a set`); b.workers.load(first, 0.8) },
			func() { b.noError(b.store.Delete(b.t.Context(), activeset.Key("test"))); b.workers.load(first, 0.9) },
		} {
			change()
			b.pass(2 * time.Second)
			set, ok := b.set()
			if !ok || set.Version <= last || len(set.Instances) != 1 {
				t.Errorf("step %d: got %+v after version %d", step, set, last)
			}
			last = set.Version
		}
	})
}

// overwrite writes another set, as another program would.
func (b *bench) overwrite(last blob.Version, doc string) {
	b.t.Helper()
	if _, err := b.store.Put(context.Background(), activeset.Key(b.cfg.Name), []byte(doc), last); err != nil {
		b.t.Fatal(err)
	}
}

func TestADamagedSetIsReplaced(t *testing.T) {
	t.Parallel()
	bubble(t, servers(0, 1), func(b *bench) {
		b.stopController()
		b.overwrite(blob.Any, `{"pool":"te`)
		b.startController()
		b.pass(time.Second)
		if got := b.members(); got != "" {
			t.Errorf("got %q, want an empty set", got)
		}
	})
}

// TestStoreDown checks that an instance that cannot be taken out of the published set is neither drained nor
// ended. Everything else goes on, if the cloud's lists are current.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	bubble(t, fibPool(), func(b *bench) {
		b.stopController()
		b.listLag = time.Second
		b.startController()
		b.send(8)
		b.grow(2)
		b.tap.breakDown("store", errAway)
		b.pass(20 * time.Minute)
		b.wantStates("i-000001:active i-000002:active")
		b.workers.load(first, 0.9)
		b.workers.load(second, 0.9)
		b.grow(3)
		if got := b.members(); got != "i-000001 i-000002" {
			t.Errorf("got %q", got)
		}
		b.tap.heal()
		b.pass(11 * time.Second)
		if got := b.members(); got != "i-000001 i-000002 i-000003" {
			t.Errorf("11 s after all is well: got %q", got)
		}
	})
}

func TestStoreDownAtTheStart(t *testing.T) {
	t.Parallel()
	bubble(t, fibPool(), func(b *bench) {
		b.send(8)
		b.grow(2)
		b.workers.load(first, 0.2)
		b.stopController()
		b.tap.breakDown("store", errAway)
		b.startController()
		b.pass(20 * time.Minute)
		b.wantStates("i-000001:active i-000002:active")
		if set, _ := b.set(); len(set.Instances) != 2 {
			t.Errorf("got %+v, want the old set", set)
		}
		b.tap.heal()
		b.until("one drains", 15*time.Second, func() bool { return b.count(pool.ShutDown) > 0 })
	})
}

// TestHungOneWhileTheStoreIsDown checks that a hung instance stays while it cannot be taken out of the
// published set, and that its replacement waits for room.
func TestHungOneWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	bubble(t, servers(1, 1), func(b *bench) {
		b.grow(1)
		b.workers.hang(first)
		b.tap.breakDown("store.put", errAway)
		b.pass(30 * time.Minute)
		b.wantStates("i-000001:active")
		b.tap.heal()
		b.pass(11 * time.Second)
		b.wantStates("i-000002:active")
	})
}

// TestLostAnswersOfTheStore checks that after a write whose answer was lost, nothing is done that depends on
// what was written. The tap checks that no instance in the set is ended.
func TestLostAnswersOfTheStore(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]int{"one": 1, "two": 2, "three": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, fibPool(), func(b *bench) {
				b.send(1)
				b.tap.loseAnswers("store.put", lost) // also of the write with the new member
				b.grow(1)
				b.tap.loseAnswers("store.put", lost) // of the write without the member that leaves
				b.until("it drains", 5*time.Minute, func() bool { return b.count(pool.ShutDown) == 1 })
				b.pass(5 * time.Second)
				if got := b.members(); got != "" {
					t.Errorf("got %q in the set, want nobody", got)
				}
			})
		})
	}
}

// TestLostAnswerOfALeaving loses the answer to the write that takes an instance out of the set. The instance
// is therefore not ended, and the same pass writes it into the set again.
func TestLostAnswerOfALeaving(t *testing.T) {
	t.Parallel()
	cfg := fibPool()
	cfg.ActiveSetInterval = time.Hour // so that new loads alone are not written
	bubble(t, cfg, func(b *bench) {
		b.send(1)
		b.grow(1)
		b.tap.loseAnswers("store.put", 1)
		b.until("the answer was lost", 5*time.Minute,
			func() bool { return b.log.count("write active set: "+errLost.Error()) > 0 })
		b.wantStates("i-000001:active")
		if got := b.members(); got != string(first) {
			t.Errorf("got %q in the set, want %s", got, first)
		}
	})
}

// TestSpokenSince checks that an instance that takes work during a slow call of the pass is not ended by that
// pass.
func TestSpokenSince(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.Blob = true
	bubble(t, cfg, func(b *bench) {
		b.send(1)
		b.grow(1)
		b.tap.slow("store.put", 5*time.Second)
		b.until("it is about to be stopped", 5*time.Minute, func() bool { return b.members() == "" })
		b.send(1) // it is taken at once; the tap checks that no busy instance is ended
		b.pass(8 * time.Second)
		b.wantStates("i-000001:active")
		b.until("stopped when it is done", 5*time.Minute, func() bool { return b.states() == "" })
		if jobs, times := b.workers.finished(); jobs != 2 || times != 2 {
			t.Errorf("got %d jobs done %d times, want 2 done once", jobs, times)
		}
	})
}
