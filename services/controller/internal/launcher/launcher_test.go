package launcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/launcher"
)

var (
	errAway = errors.New("the other side is away")
	t0      = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
)

const (
	lag     = time.Minute      // how far lists are behind
	timeout = 30 * time.Second // of a call of the cloud
)

// world is a launcher with a cloud that does as it is told.
type world struct {
	*launcher.Launcher

	t      *testing.T
	now    time.Time
	store  *memblob.Store
	tokens int
	specs  []cloud.Spec      // what the cloud was asked for
	answer []pool.InstanceID // what it answers
	err    error
	takes  time.Duration // how long a call takes
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: t0, store: memblob.New()}
	w.restart(lag)
	return w
}

// restart begins the life of another launcher.
func (w *world) restart(listLag time.Duration) {
	w.Launcher = launcher.New(w, w.store, launcher.Options{
		Pool: "fib", Image: "image-1", ListLag: listLag, MostPause: time.Minute, Now: func() time.Time { return w.now },
		UserData: func(id pool.InstanceID) ([]byte, error) { return []byte("one " + id), nil },
		Token:    func() string { w.tokens++; return fmt.Sprintf("t%d", w.tokens) },
	})
	w.load()
}

func (w *world) load() {
	w.t.Helper()
	if err := w.Load(w.t.Context(), w.now); err != nil {
		w.t.Fatal(err)
	}
}

// Launch implements the launcher's provider.
func (w *world) Launch(_ context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	w.specs = append(w.specs, spec)
	w.now = w.now.Add(w.takes)
	var out []cloud.Instance
	for _, id := range w.answer {
		out = append(out, cloud.Instance{ID: id, Tags: spec.Tags})
	}
	return out, w.err
}

// want asks the launcher for n instances where there is room, and returns the token of the attempt, what it has
// started, and the error; the token is empty if the cloud was not asked.
func (w *world) want(n int) (token string, started []pool.InstanceID, err error) {
	w.t.Helper()
	_, said, err := w.Launcher.Launch(w.t.Context(), launcher.Request{Count: n, Maximum: 100})
	if said == nil {
		return "", nil, err
	}
	if (said.Error != "") != (err != nil) || said.Token != w.specs[len(w.specs)-1].Token {
		w.t.Errorf("got record %+v with error %v", said, err)
	}
	return said.Token, said.Started, err
}

// answers has the cloud answer so from now on.
func (w *world) answers(err error, ids ...pool.InstanceID) { w.answer, w.err = ids, err }

func (w *world) journal() (tokens []string) {
	w.t.Helper()
	o, err := w.store.Get(w.t.Context(), "controller/launch/fib", "")
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	var doc struct {
		Launches []struct{ Token string }
	}
	if err = errors.Join(err, json.Unmarshal(o.Data, &doc)); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range doc.Launches {
		tokens = append(tokens, e.Token)
	}
	return tokens
}

// TestLaunch checks what the cloud is asked for, and what is left open after its answer.
func TestLaunch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answers(nil, "i-1", "i-2")
	token, started, err := w.want(2)
	if err != nil || token != "t1-t2" || !slices.Equal(started, w.answer) || w.Open() != "" || !w.Next().IsZero() {
		t.Errorf("got token %s, started %v, error %v, open %q, next %s", token, started, err, w.Open(), w.Next())
	}
	spec := w.specs[0]
	data, err := spec.UserData("i-1")
	if spec.Count != 2 || spec.Image != "image-1" || string(data) != "one i-1" || err != nil {
		t.Errorf("got %+v with user data %q and error %v", spec, data, err)
	}
	want := map[string]string{
		cloud.TagPool: "fib", cloud.TagState: "startup", cloud.TagStateSince: t0.Format(time.RFC3339Nano),
		cloud.TagLaunch: token,
	}
	if fmt.Sprint(spec.Tags) != fmt.Sprint(want) {
		t.Errorf("got tags %v, want %v", spec.Tags, want)
	}
	if next, _, err := w.want(1); next == token || err != nil {
		t.Errorf("got token %s and error %v, want another token", next, err)
	}
}

// TestUnansweredLaunchIsRepeatedAsItWas: the cloud knows it by its token, and refuses that for anything else.
func TestUnansweredLaunchIsRepeatedAsItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answers(errAway, "i-1")
	token, started, err := w.want(2)
	if !errors.Is(err, errAway) || w.Open() != token || !slices.Equal(started, []pool.InstanceID{"i-1"}) {
		t.Errorf("got error %v, open %q, started %v, want it open", err, w.Open(), started)
	}
	w.Change(launcher.Options{Image: "image-2", MostPause: time.Minute})
	w.answers(nil, "i-1", "i-2")
	w.now = w.Next()
	again, started, err := w.want(1)
	if again != token || err != nil || !slices.Equal(started, []pool.InstanceID{"i-2"}) || w.Open() != "" {
		t.Errorf("got token %s, error %v, started %v, open %q, want the rest of the same", again, err, started,
			w.Open())
	}
	a, b := w.specs[0], w.specs[1]
	if a.Image != b.Image || a.Count != b.Count || fmt.Sprint(a.Tags) != fmt.Sprint(b.Tags) || b.UserData == nil {
		t.Errorf("got %+v and then %+v, want the same", a, b)
	}
	if _, _, err := w.want(1); err != nil || w.specs[2].Image != "image-2" || w.specs[2].UserData != nil {
		t.Errorf("got %+v and error %v, want the new image and user data", w.specs[2], err)
	}
}

// TestRefusedLaunchIsNotRepeated: the cloud has said that it did nothing.
func TestRefusedLaunchIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{
		cloud.ErrCapacity, cloud.ErrDenied, cloud.ErrNotFound, cloud.ErrInvalid, cloud.ErrConflict,
	} {
		w := newWorld(t)
		w.answers(fmt.Errorf("launch: %w", refusal))
		token, _, err := w.want(1)
		if !errors.Is(err, refusal) || w.Open() != "" {
			t.Errorf("%v: got error %v and open %q", refusal, err, w.Open())
		}
		w.now = w.Next()
		if again, _, _ := w.want(1); again == token {
			t.Errorf("%v: the token is used again", refusal)
		}
	}
	w := newWorld(t)
	w.answers(cloud.ErrThrottled)
	if _, _, err := w.want(1); err == nil || w.Open() == "" {
		t.Errorf("throttled: got error %v and open %q, want it open", err, w.Open())
	}
}

// TestFailuresPause for longer and longer.
func TestFailuresPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answers(cloud.ErrCapacity)
	for _, want := range []int{1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60, 60, 60} {
		if _, _, err := w.want(1); !errors.Is(err, cloud.ErrCapacity) {
			t.Errorf("got %v", err)
		}
		if got := w.Next().Sub(w.now); got != time.Duration(want)*time.Second {
			t.Errorf("got a pause of %s, want %d s", got, want)
		}
		w.now = w.Next().Add(-time.Millisecond)
		if token, _, err := w.want(1); token != "" || !errors.Is(err, cloud.ErrCapacity) {
			t.Errorf("within the pause: got token %s and error %v, want the error and no call", token, err)
		}
		w.now = w.Next()
	}
	w.answers(nil)
	if _, _, err := w.want(1); err != nil || !w.Next().IsZero() {
		t.Errorf("got error %v and next %s, want no pause", err, w.Next())
	}
	w.answers(cloud.ErrCapacity)
	if _, _, err := w.want(1); err == nil || w.Next().Sub(w.now) != time.Second {
		t.Errorf("got error %v and a pause of %s, want that it begins anew", err, w.Next().Sub(w.now))
	}
}

// TestNothingPastTheMaximum, which counts all that are there, and nothing beyond what is wanted.
func TestNothingPastTheMaximum(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for present, asked := range map[int]bool{2: true, 3: false} {
		before := len(w.specs)
		_, said, err := w.Launcher.Launch(t.Context(), launcher.Request{Count: 2, Present: present, Maximum: 4})
		if (err == nil) != asked || (said != nil) != asked || (len(w.specs) > before) != asked {
			t.Errorf("with %d present: got %+v and error %v, want asked: %v", present, said, err, asked)
		}
	}
	w.answers(errAway, "i-1")
	if _, _, err := w.want(3); err == nil {
		t.Error("got no error")
	}
	w.now = w.Next()
	if token, _, err := w.want(1); token != "" || !errors.Is(err, errAway) {
		t.Errorf("2 may come, 1 is wanted: got token %s and error %v, want no call", token, err)
	}
	full := launcher.Request{Count: 2, Present: 3, Maximum: 4}
	if _, said, err := w.Launcher.Launch(t.Context(), full); said != nil || err == nil {
		t.Errorf("2 may come, there is room for 1: got %+v and error %v, want no call", said, err)
	}
	if token, _, err := w.want(2); token == "" || !errors.Is(err, errAway) {
		t.Errorf("2 may come, 2 are wanted: got token %s and error %v, want it asked for again", token, err)
	}
}

// TestOpenUntilListsShow checks how long it is open whether a launch took effect: until a list that was asked for later
// than the call could take effect, and lists are behind.
func TestOpenUntilListsShow(t *testing.T) {
	t.Parallel()
	for took, certain := range map[time.Duration]time.Duration{
		0: timeout + lag, 40 * time.Second: 40*time.Second + lag, // a call may last longer than it should
	} {
		w := newWorld(t)
		w.answers(errAway)
		w.takes = took
		token, _, _ := w.want(1)
		w.Observe(nil, t0.Add(certain))
		if w.Open() != token {
			t.Errorf("took %s: got open %q at the last moment, want %q", took, w.Open(), token)
		}
		w.Observe(nil, t0.Add(certain+1))
		if w.Open() != "" {
			t.Errorf("took %s: got open %q, want none", took, w.Open())
		}
	}
}

// TestALaunchIsNotAskedForForEver: when lists must show what came of it, they decide.
func TestALaunchIsNotAskedForForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answers(errAway)
	token, _, _ := w.want(1)
	for w.now.Before(t0.Add(timeout + lag)) {
		w.now = w.Next()
		if again, _, err := w.want(1); again != token && again != "" || !errors.Is(err, errAway) {
			t.Fatalf("got token %s and error %v", again, err)
		}
	}
	asked := len(w.specs)
	w.now = w.now.Add(2 * time.Minute)
	if again, _, err := w.want(1); again != "" || len(w.specs) != asked ||
		!strings.Contains(err.Error(), "lists must show") {
		t.Errorf("got token %s and error %v, want no call", again, err)
	}
	w.Observe(nil, w.now)
	if again, _, _ := w.want(1); again == token || again == "" {
		t.Errorf("got token %q, want a new one", again)
	}
}

// TestChangeOfTheLongestPause counts from the next failure on.
func TestChangeOfTheLongestPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Change(launcher.Options{Image: "image-1", MostPause: 3 * time.Second})
	w.answers(cloud.ErrCapacity)
	for range 5 {
		_, _, _ = w.want(1)
		if pause := w.Next().Sub(w.now); pause > 3*time.Second {
			t.Errorf("got a pause of %s, want 3 s at most", pause)
		}
		w.now = w.Next()
	}
}

// TestWhatIsSaidOfAnAttempt names the reason, whether it is the same launch again, and whether it is still open.
func TestWhatIsSaidOfAnAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n, c := range []struct {
		err         error
		reason      string
		again, open bool
	}{
		{cloud.ErrCapacity, "capacity", false, false},
		{cloud.ErrInvalid, "invalid", false, false},
		{cloud.ErrThrottled, "throttled", false, true},
		{errAway, "other", true, true},
		{cloud.ErrCapacity, "capacity", true, true}, // the attempts before it may have taken effect
		{nil, "", true, false},
		{nil, "", false, false},
	} {
		w.answers(c.err)
		w.now = w.Next().Add(time.Second)
		_, said, err := w.Launcher.Launch(t.Context(), launcher.Request{Count: 2, Maximum: 100})
		if said == nil || said.Reason != c.reason || said.Again != c.again || said.Open != c.open || said.Asked != 2 {
			t.Errorf("attempt %d: got %+v, want %+v", n, said, c)
		}
		if !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), "launch 2 instances") {
			t.Errorf("attempt %d: got error %v, want %v", n, err, c.err)
		}
	}
}

// TestVersionAndSuccessorOnTags: a launch that is repeated says what it said at first, whatever is wanted meanwhile.
func TestVersionAndSuccessorOnTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Change(launcher.Options{Image: "image-1", Version: "1.a.b"})
	w.answers(errAway)
	ask := func(surge bool) {
		w.now = w.now.Add(10 * time.Second)
		_, _, _ = w.Launcher.Launch(t.Context(), launcher.Request{Count: 1, Maximum: 9, Surge: surge})
	}
	ask(true)
	w.Change(launcher.Options{Image: "image-2", Version: "1.c.d"})
	ask(false)
	w.answers(nil, "i-1")
	ask(false)
	ask(false)
	want := [][2]string{{"1.a.b", "true"}, {"1.a.b", "true"}, {"1.a.b", "true"}, {"1.c.d", ""}}
	if len(w.specs) != len(want) {
		t.Fatalf("got %d requests, want %d", len(w.specs), len(want))
	}
	for i, spec := range w.specs {
		if got := [2]string{spec.Tags[cloud.TagVersion], spec.Tags[cloud.TagSurge]}; got != want[i] {
			t.Errorf("request %d: got %v, want %v", i, got, want[i])
		}
	}
}
