package processcloud_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/dirlock"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// TestKindOpensOnce: a deployment's directory has one controller, whose calls are counted, and who is told
// of ends.
func TestKindOpensOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	var calls []string
	changed := make(chan struct{}, 1)
	k := processcloud.Kind()
	opts := cloud.OpenOptions{
		Deployment: "test", Name: "local", Log: slog.New(slog.DiscardHandler),
		Settings: &processcloud.Settings{BinDir: bins, StateDir: w.opts.StateDir, Grace: time.Second},
		Count: func(service, operation string, _ error) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, service+" "+operation)
		},
		Changed: func() { changed <- struct{}{} },
	}
	c, err := k.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(t.Context(), opts); !errors.Is(err, dirlock.ErrHeld) ||
		!strings.Contains(err.Error(), "state_dir: ") {
		t.Errorf("a second one: got %v, want %v", err, dirlock.ErrHeld)
	}
	out, err := c.Launch(t.Context(), newSpec("t", 1))
	if err != nil {
		t.Fatal(err)
	}
	_, listed := c.List(t.Context())
	tagged := c.Tag(t.Context(), map[string]string{"a": "b"}, out[0].ID)
	if err := errors.Join(listed, tagged, c.Terminate(t.Context(), out[0].ID)); err != nil {
		t.Error(err)
	}
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		t.Error("nobody told of the end")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	want := []string{"process launch", "process list", "process tag", "process terminate"}
	if !slices.Equal(calls, want) {
		t.Errorf("counted %q, want %q", calls, want)
	}
	// A process that another test starts in this moment has the lock's file open, too, until it runs its own program.
	again, err := k.Open(t.Context(), opts)
	for deadline := time.After(10 * time.Second); errors.Is(err, dirlock.ErrHeld); {
		select {
		case <-deadline:
			t.Fatalf("after Close: got %v", err)
		case <-time.After(10 * time.Millisecond):
		}
		again, err = k.Open(t.Context(), opts)
	}
	if err != nil {
		t.Fatalf("after Close: got %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestKindRefuses(t *testing.T) {
	t.Parallel()
	k := processcloud.Kind()
	if err := k.Settings().Validate(); err != nil {
		t.Errorf("defaults: got %v", err)
	}
	err := (&processcloud.Settings{Grace: -time.Second, Capacity: -1}).Validate()
	if err == nil || err.Error() != "terminate_grace: -1s is less than 0\ncapacity: -1 is less than 0" {
		t.Errorf("got %v, want both", err)
	}
	set := &processcloud.Settings{BinDir: bins}
	for image, want := range map[string]string{
		"worker": "", "../worker": "is not the name of a program in bin_dir", "ghost": "there is no program ",
		"plain-file": "there is no program ",
	} {
		err := k.CheckPool(set, "", cloud.PoolSpec{Name: "p", Image: image})
		if want == "" && err == nil || want != "" && err != nil && strings.HasPrefix(err.Error(), "image: ") &&
			strings.Contains(err.Error(), want) {
			continue
		}
		t.Errorf("%s: got %v, want %q", image, err, want)
	}
	if _, err := k.Open(t.Context(),
		cloud.OpenOptions{
			Settings: new(kind.None), Pool: func(pool.Name) (kind.Settings, bool) { return nil, false },
		}); err == nil {
		t.Error("settings of another kind: got no error")
	}
}
