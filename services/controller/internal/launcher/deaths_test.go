package launcher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/launcher"
)

// die says that so many instances have ended before they reported.
func (w *world) die(n int) {
	var list []pool.Ending
	for i := range n {
		list = append(list, pool.Ending{
			Instance: pool.InstanceID(fmt.Sprint("i-", i)), Cause: pool.Outside, Unheard: true, Reason: "no key",
		})
	}
	w.Died(list, w.now)
}

// TestLaunchesThatDiePause: after three in a row nothing is launched for a minute, then one at a time, with growing
// pauses up to half an hour, until one of them lives. The error says what the cloud says.
func TestLaunchesThatDiePause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.die(2)
	if _, _, err := w.want(5); err != nil || w.specs[0].Count != 5 {
		t.Fatalf("after two deaths: got error %v and %d asked, want 5", err, w.specs[0].Count)
	}
	w.die(1)
	for n, pause := range []time.Duration{
		time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 30 * time.Minute,
		30 * time.Minute,
	} {
		if got := w.Next().Sub(w.now); got != pause {
			t.Errorf("after %d deaths: next in %s, want %s", n+3, got, pause)
		}
		w.now = w.now.Add(pause - 1)
		calls := len(w.specs)
		if _, _, err := w.want(5); err == nil || !strings.Contains(err.Error(), "the cloud says: no key") ||
			len(w.specs) != calls {
			t.Errorf("in the pause: got error %v and %d calls more", err, len(w.specs)-calls)
		}
		w.now = w.now.Add(1)
		if _, _, err := w.want(5); err != nil || w.specs[calls].Count != 1 {
			t.Fatalf("after the pause: got error %v, want one instance asked for", err)
		}
		if _, _, err := w.want(5); err == nil {
			t.Error("a second one was launched before it is known what became of the first")
		}
		w.die(1)
	}
	w.Lives()
	if _, _, err := w.want(5); err != nil || w.specs[len(w.specs)-1].Count != 5 || !w.Next().IsZero() {
		t.Errorf("after one has lived: got error %v, %d asked, next %s", err, w.specs[len(w.specs)-1].Count, w.Next())
	}
}

// TestAnOpenLaunchIsAskedForAgainAlsoInAPause: it was made already, if it was.
func TestAnOpenLaunchIsAskedForAgainAlsoInAPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answers(errAway)
	token, _, _ := w.want(2)
	w.die(3)
	w.answers(nil, "i-1", "i-2")
	w.now = w.now.Add(time.Second)
	if again, _, err := w.want(2); again != token || err != nil {
		t.Errorf("got token %q and error %v, want %q again", again, err, token)
	}
}

// TestAChangeEndsThePause: somebody may have corrected what the instances died of, so one is tried at once.
func TestAChangeEndsThePause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.die(10)
	w.Change(launcher.Options{Image: "image-2", MostPause: time.Minute})
	if _, _, err := w.want(5); err != nil || w.specs[0].Count != 1 || w.specs[0].Image != "image-2" {
		t.Errorf("got error %v and %+v, want one of the new image", err, w.specs)
	}
}
