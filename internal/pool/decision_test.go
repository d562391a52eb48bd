package pool_test

import (
	"fmt"
	"testing"

	"cloudmaster/internal/pool"
)

func ExampleDecision_String() {
	d := pool.Decision{Launch: 2, Stop: ends("i-4")}
	d.Because("%d messages need %d instances, %d counted", 6, 3, 1)
	fmt.Println(&d)

	limits := pool.Limits{Maximum: 2, StartLimit: 1}
	clamped := limits.Apply(&pool.Snapshot{}, d, pool.Budget{Starts: 1})
	fmt.Println(&clamped)
	// Output:
	// launch 2, stop [i-4]: 6 messages need 3 instances, 1 counted
	// launch 1: 6 messages need 3 instances, 1 counted (i-4 cannot be stopped; start limit allows 1 of 2 launches)
}

func TestDecisionString(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		d     pool.Decision
		want  string
		empty bool
	}{
		"nothing":       {pool.Decision{}, "nothing", true},
		"only a reason": {pool.Decision{Reason: "holding"}, "nothing: holding", true},
		"only a clamp":  {pool.Decision{Clamps: []pool.Clamp{{Text: "maximum 2"}}}, "nothing (maximum 2)", true},
		"launch":        {pool.Decision{Launch: 1}, "launch 1", false},
		"all, in the order of acting but for launches": {
			pool.Decision{
				Launch: 1, Reactivate: []pool.InstanceID{"a"}, ShutDown: ends("b"), Stop: ends("c", "d"),
				Reason: "r", Clamps: []pool.Clamp{{Text: "x"}, {Text: "y"}},
			},
			"launch 1, reactivate [a], shut down [b], stop [c d]: r (x; y)", false,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.d.String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got := c.d.Empty(); got != c.empty {
				t.Errorf("%s: empty: got %v, want %v", &c.d, got, c.empty)
			}
		})
	}
}

func TestBecauseJoins(t *testing.T) {
	t.Parallel()
	var d pool.Decision
	d.Because("one")
	d.Because("two of %d", 2)
	if want := "one; two of 2"; d.Reason != want {
		t.Errorf("got %q, want %q", d.Reason, want)
	}
}
