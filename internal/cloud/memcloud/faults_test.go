package memcloud_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
)

var errBroken = errors.New("broken")

// operations has a call of each method of the port. They expect that the instance i-000001 exists.
var operations = map[memcloud.Op]func(context.Context, cloud.Cloud) error{
	memcloud.OpLaunch: func(ctx context.Context, c cloud.Cloud) error {
		_, err := c.Launch(ctx, spec("new", 1))
		return err
	},
	memcloud.OpList: func(ctx context.Context, c cloud.Cloud) error { _, err := c.List(ctx); return err },
	memcloud.OpTag: func(ctx context.Context, c cloud.Cloud) error {
		return c.Tag(ctx, map[string]string{"a": "b"}, "i-000001")
	},
	memcloud.OpTerminate: func(ctx context.Context, c cloud.Cloud) error { return c.Terminate(ctx, "i-000001") },
}

// effect describes everything that the operations above may have changed.
func effect(a *memcloud.Account) string {
	out := phases(a.Instances())
	for _, in := range a.Instances() {
		out += in.Tags["a"]
	}
	return out
}

func TestNextErrorHasNoEffect(t *testing.T) {
	t.Parallel()
	for op, do := range operations {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t, memcloud.Options{TerminateDelay: time.Hour})
			c := a.Cloud("d")
			launch(t, c, "old", 1)
			before := effect(a)
			a.NextError(op, errBroken, nil, cloud.ErrThrottled)
			if err := do(t.Context(), c); !errors.Is(err, errBroken) {
				t.Errorf("first: got error %v, want %v", err, errBroken)
			}
			if got := effect(a); got != before {
				t.Errorf("first: got %q, want %q: no effect", got, before)
			}
			for i, want := range []error{nil, cloud.ErrThrottled, nil} {
				if err := do(t.Context(), c); !errors.Is(err, want) {
					t.Errorf("call %d: got error %v, want %v", i+2, err, want)
				}
			}
		})
	}
}

func TestLostAnswerHasEffect(t *testing.T) {
	t.Parallel()
	for op, do := range operations {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t, memcloud.Options{TerminateDelay: time.Hour})
			c := a.Cloud("d")
			launch(t, c, "old", 1)
			before := effect(a)
			a.LoseAnswer(op, errBroken)
			if err := do(t.Context(), c); !errors.Is(err, errBroken) {
				t.Errorf("got error %v, want %v", err, errBroken)
			}
			if changed := effect(a) != before; changed != (op != memcloud.OpList) {
				t.Errorf("got %q after %q, want the effect of %s", effect(a), before, op)
			}
			if err := do(t.Context(), c); err != nil {
				t.Errorf("again: got error %v, want none", err)
			}
		})
	}
}

// TestLostLaunchIsFoundByItsToken: repeating a launch whose answer was lost returns what that
// launch started.
func TestLostLaunchIsFoundByItsToken(t *testing.T) {
	t.Parallel()
	a := newAccount(t, memcloud.Options{})
	c := a.Cloud("d")
	a.LoseAnswer(memcloud.OpLaunch, nil, errBroken)
	launch(t, c, "first", 1)
	if out, err := c.Launch(t.Context(), spec("lost", 2)); len(out) != 0 || !errors.Is(err, errBroken) {
		t.Errorf("Launch: got %v and error %v, want none and %v", out, err, errBroken)
	}
	if got, want := launch(t, c, "lost", 2), []pool.InstanceID{"i-000002", "i-000003"}; !slices.Equal(got, want) {
		t.Errorf("Launch again: got %v, want %v", got, want)
	}
}

func TestFailAfter(t *testing.T) {
	t.Parallel()
	for op, do := range operations {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t, memcloud.Options{TerminateDelay: time.Hour})
			c := a.Cloud("d")
			launch(t, c, "old", 1)
			a.FailAfter(op, 2, errBroken)
			for i, want := range []error{nil, nil, errBroken, errBroken} {
				if err := do(t.Context(), c); !errors.Is(err, want) {
					t.Errorf("call %d: got error %v, want %v", i+1, err, want)
				}
			}
			a.Heal()
			if err := do(t.Context(), c); err != nil {
				t.Errorf("healed: got error %v, want none", err)
			}
		})
	}
}

func TestThrottling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newAccount(t, memcloud.Options{CallRate: 2, CallBurst: 3}).Cloud("d")
		calls := func(n int) (passed int) {
			for range n {
				_, err := c.List(t.Context())
				if err == nil {
					passed++
				} else if !errors.Is(err, cloud.ErrThrottled) {
					t.Errorf("List: got error %v, want ErrThrottled", err)
				}
			}
			return passed
		}
		for _, step := range []struct {
			wait time.Duration
			want int
		}{{0, 3}, {0, 0}, {time.Second, 2}, {time.Hour, 3}} {
			time.Sleep(step.wait)
			if got := calls(5); got != step.want {
				t.Errorf("after %s: got %d of 5 calls through, want %d", step.wait, got, step.want)
			}
		}
	})
}

func TestLatencyHonoursContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, memcloud.Options{Latency: time.Second})
		for op, do := range operations {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			err := do(ctx, a.Cloud("d"))
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
				t.Errorf("%s: got error %v after %s, want the deadline after 100ms", op, err, time.Since(start))
			}
		}
		if got := a.Instances(); len(got) != 0 {
			t.Errorf("got %v, want no effect", got)
		}
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	a := newAccount(t, memcloud.Options{})
	c := a.Cloud("d")
	a.NextError(memcloud.OpLaunch, errBroken)
	_, _ = c.Launch(t.Context(), spec("one", 1))
	launch(t, c, "one", 1)
	terminate(t, c, "i-000001")
	calls := a.Calls()
	if len(calls) != 3 || a.Count(memcloud.OpLaunch) != 2 ||
		a.Count(memcloud.OpTerminate) != 1 || a.Count(memcloud.OpList) != 0 {
		t.Fatalf("got %v, want two launches and a termination", calls)
	}
	if !errors.Is(calls[0].Err, errBroken) || calls[0].IDs != nil || calls[0].Asked != 1 || calls[0].Token != "one" {
		t.Errorf("first: got %+v, want the failed launch", calls[0])
	}
	if want := []pool.InstanceID{"i-000001"}; !slices.Equal(calls[1].IDs, want) ||
		!slices.Equal(calls[2].IDs, want) || calls[2].Deployment != "d" {
		t.Errorf("then: got %+v, want both of %v", calls[1:], want)
	}
	a.ForgetCalls()
	if got := a.Count(memcloud.OpLaunch); got != 0 {
		t.Errorf("after ForgetCalls: got %d, want 0", got)
	}
}
