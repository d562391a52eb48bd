package launcher_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/launcher"
)

// launched returns instances as a list shows them that have come from a launch.
func launched(token string, n int) []cloud.Instance {
	return slices.Repeat([]cloud.Instance{{Tags: map[string]string{cloud.TagLaunch: token}}}, n)
}

// write puts a journal into the store.
func (w *world) write(doc string) {
	w.t.Helper()
	if _, err := w.store.Put(w.t.Context(), "controller/launch/fib", []byte(doc), blob.Any); err != nil {
		w.t.Fatal(err)
	}
}

// wantWait checks for whose launch, and until how long after t0, launches wait; token "" means that they do not.
func (w *world) wantWait(when, token string, until time.Duration) {
	w.t.Helper()
	switch got := w.Wait(); {
	case token == "" && got != nil, token != "" && got == nil:
		w.t.Errorf("%s: got %+v, want the wait %q", when, got, token)
	case got != nil && (got.Token != token || !got.Until.Equal(t0.Add(until))):
		w.t.Errorf("%s: got %+v, want %q until %s", when, got, token, t0.Add(until))
	}
}

// TestSuccessorWaits for the launches of another one until a list shows all that they started, or has had the time to
// since the successor read of them.
func TestSuccessorWaits(t *testing.T) {
	t.Parallel()
	const most = time.Second + timeout + lag
	for name, c := range map[string]struct {
		shown int
		asked time.Duration // when the list was asked for
		waits bool
	}{
		"nothing shown":         {0, most - 1, true},
		"nothing shown in time": {0, most, false},
		"one of two shown":      {1, most - 1, true},
		"both shown":            {2, time.Second, false},
		"both, by an old list":  {2, 0, true}, // a list of the moment of the launch is no proof
	} {
		w := newWorld(t)
		token, _, err := w.want(2)
		w.wantWait(name+": its own", "", 0)
		w.now = t0.Add(time.Second)
		w.restart(lag)
		w.wantWait(name+": before the list", token, most)
		w.Observe(launched(token, c.shown), t0.Add(c.asked))
		if !c.waits {
			token = ""
		}
		if w.wantWait(name, token, most); err != nil {
			t.Error(err)
		}
	}
}

// TestSuccessorWaitsByItsOwnClock: that of its predecessor may have been behind by as much as five minutes. What is
// older has been over for long.
func TestSuccessorWaitsByItsOwnClock(t *testing.T) {
	t.Parallel()
	const over = timeout + lag + 5*time.Minute
	for behind, waits := range map[time.Duration]bool{timeout + lag: true, over - 1: true, over: false} {
		w := newWorld(t)
		w.now = t0.Add(-behind)
		token, _, err := w.want(1)
		w.now = t0
		w.restart(lag)
		if !waits {
			token = ""
		}
		if w.wantWait(behind.String()+" behind", token, timeout+lag); err != nil {
			t.Error(err)
		}
	}
}

// TestAJournalReadAgainMakesNobodyWaitAgain for a launch that was waited for.
func TestAJournalReadAgainMakesNobodyWaitAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(`{"launches":[{"token":"a","count":1,"at":"2026-11-22T10:00:00Z"}]}`)
	w.restart(lag)
	w.now = t0.Add(timeout + lag)
	w.Observe(nil, w.now)
	w.store.NextError(memblob.OpPut, errAway)
	if _, _, err := w.want(1); !errors.Is(err, errAway) {
		t.Fatalf("got error %v, want %v", err, errAway)
	}
	w.load()
	w.Observe(nil, w.now)
	w.wantWait("read again", "", 0)
}

// TestSuccessorWaitsForTheNewest of several launches, and keeps those of others in the journal until they are shown.
func TestSuccessorWaitsForTheNewest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(`{"launches":[
		{"token":"a","count":1,"at":"2026-11-22T09:59:50Z"}, {"token":"b","count":1,"at":"2026-11-22T09:59:55Z"},
		{"token":"c","count":1,"at":"2026-11-22T09:59:40Z"}]}`)
	w.restart(lag)
	w.wantWait("at first", "b", timeout+lag)
	w.Observe(launched("b", 1), t0)
	w.wantWait("when the newest is shown", "a", timeout+lag)
	token, _, err := w.want(1)
	if got := w.journal(); err != nil || !slices.Equal(got, []string{"a", "c", token}) {
		t.Errorf("got journal %q and error %v", got, err)
	}
}

// TestJournalFromTheFuture holds up nobody longer than one of now: its writer's clock was ahead.
func TestJournalFromTheFuture(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(`{"launches":[{"token":"a","count":1,"at":"2027-11-22T10:00:00Z"}]}`)
	w.restart(lag)
	w.wantWait("from the future", "a", timeout+lag)
}

// TestDamagedJournal holds up launches as long as one launch would: it told of some.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("{")
	w.restart(lag)
	w.wantWait("damaged", "damaged", timeout+lag)
	w.now = t0.Add(time.Minute)
	w.store.NextError(memblob.OpPut, errAway)
	_, _, _ = w.want(1)
	w.load()
	w.wantWait("read again a minute later", "damaged", timeout+lag)
	w.Observe(nil, t0.Add(timeout+lag))
	w.wantWait("in time", "", 0)
}

// TestJournalKeepsLaunchesUntilListsShowThem, each once, however often it is asked for.
func TestJournalKeepsLaunchesUntilListsShowThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, _, _ := w.want(1)
	w.answers(errAway)
	second, _, _ := w.want(1)
	w.now = w.Next()
	_, _, _ = w.want(1)
	if got := w.journal(); !slices.Equal(got, []string{first, second}) {
		t.Errorf("got %q, want %q and %q", got, first, second)
	}
	w.now = w.Next()
	w.Observe(launched(first, 1), w.now)
	_, _, _ = w.want(1)
	if got := w.journal(); !slices.Equal(got, []string{second}) {
		t.Errorf("got %q, want %q", got, second)
	}
}

// TestNothingIsLaunchedThatIsNotWritten, and nothing waits for its answer.
func TestNothingIsLaunchedThatIsNotWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store.NextError(memblob.OpPut, errAway)
	if token, _, err := w.want(1); token != "" || !errors.Is(err, errAway) || len(w.specs) > 0 || w.Open() != "" {
		t.Errorf("got token %q, error %v, %d calls, open %q", token, err, len(w.specs), w.Open())
	}
	if token, _, err := w.want(1); token != "" || err == nil { // the journal must be read again
		t.Errorf("before it is read again: got token %q and error %v", token, err)
	}
	w.load()
	if token, _, err := w.want(5); token == "" || err != nil || w.specs[0].Count != 5 {
		t.Errorf("got token %q and error %v, want a launch of 5", token, err)
	}
}

// TestAnOpenLaunchStaysOpenWhenItCannotBeWrittenAgain: it may have taken effect.
func TestAnOpenLaunchStaysOpenWhenItCannotBeWrittenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answers(errAway)
	token, _, _ := w.want(1)
	w.now = w.Next()
	w.store.NextLost(memblob.OpPut, errAway)
	if again, _, err := w.want(1); again != "" || err == nil || w.Open() != token {
		t.Errorf("got token %q, error %v, open %q", again, err, w.Open())
	}
	w.load()
	w.wantWait("its own, read again", "", 0)
	if again, _, _ := w.want(1); again != token {
		t.Errorf("got token %q, want %q again", again, token)
	}
}

// TestAnUnreadJournalIsAnError, and the next time it is read.
func TestAnUnreadJournalIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, _, _ := w.want(1)
	w.Launcher = launcher.New(w, w.store, launcher.Options{
		Pool: "fib", ListLag: lag, Now: func() time.Time { return w.now }, Token: func() string { return "other" },
	})
	w.store.NextError(memblob.OpGet, errAway)
	if err := w.Load(t.Context(), w.now); !errors.Is(err, errAway) {
		t.Errorf("got %v, want %v", err, errAway)
	}
	w.load()
	w.store.NextError(memblob.OpGet, errAway)
	w.load() // it has been read
	w.wantWait("when it is read", first, timeout+lag)
}

// TestAReplacedLauncherLearnsOfItsSuccessor by its first write, which fails.
func TestAReplacedLauncherLearnsOfItsSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mine, _, _ := w.want(1)
	w.write(`{"launches":[{"token":"a","count":1,"at":"2026-11-22T10:00:00Z"}]}`)
	if token, _, err := w.want(1); token != "" || !errors.Is(err, blob.ErrConflict) {
		t.Errorf("got token %q and error %v, want %v", token, err, blob.ErrConflict)
	}
	w.load()
	w.wantWait("after it", "a", timeout+lag)
	token, _, _ := w.want(1)
	if got := w.journal(); !slices.Equal(got, []string{mine, "a", token}) {
		t.Errorf("got journal %q, want %q, a and %q", got, mine, token)
	}
}

// TestCurrentListsNeedNoJournal: they show all before another controller can lead.
func TestCurrentListsNeedNoJournal(t *testing.T) {
	t.Parallel()
	for listLag, writes := range map[time.Duration]bool{5 * time.Second: false, 5*time.Second + 1: true} {
		w := newWorld(t)
		w.restart(listLag)
		if _, _, err := w.want(1); err != nil || (len(w.journal()) == 1) != writes {
			t.Errorf("lag %s: got error %v and journal %q", listLag, err, w.journal())
		}
	}
	w := newWorld(t)
	w.write(`{"launches":[{"token":"a","count":1,"at":"2026-11-22T10:00:00Z"}]}`)
	w.store.NextError(memblob.OpGet, errAway) // it is not read either
	w.restart(time.Second)
	w.wantWait("with current lists", "", 0)
	w.answers(errAway, pool.InstanceID("i-1"))
	_, _, _ = w.want(1)
	w.Observe(nil, t0.Add(timeout+time.Second+1))
	if w.Open() != "" {
		t.Errorf("got open %q, want none", w.Open())
	}
}
