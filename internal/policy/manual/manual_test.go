package manual_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/policy/manual"
	"cloudmaster/internal/pool"
)

var now = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

func made(t *testing.T) policy.Policy {
	t.Helper()
	p, err := manual.Kind().New(&kind.None{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// snapshot has instances as "a" active and idle, "b" busy, "s" starting, "d" draining, all an hour old.
func snapshot(instances string, memory string, orders ...pool.Order) *pool.Snapshot {
	s := &pool.Snapshot{Now: now, Pool: "p", Orders: orders, Limits: pool.Limits{Minimum: 1, Maximum: 4}}
	if memory != "" {
		s.Memory = []byte(memory)
	}
	for n, what := range instances {
		ago := now.Add(-time.Hour + time.Duration(n)*time.Minute)
		in := pool.Instance{
			ID: pool.InstanceID(fmt.Sprintf("i-%d", n)), State: pool.Active,
			Launched: ago, ActiveAt: ago, ReportedAt: now,
		}
		switch what {
		case 'a':
			in.IdleSince = ago
		case 'b':
			in.Busy, in.Load = true, 1
		case 's':
			in.State, in.ReportedAt, in.ActiveAt = pool.Startup, time.Time{}, time.Time{}
		case 'd':
			in.State = pool.ShutDown
		}
		s.Instances = append(s.Instances, in)
	}
	return s
}

func set(n int) pool.Order    { return pool.Order{ID: "1", Absolute: true, N: n} }
func adjust(n int) pool.Order { return pool.Order{ID: "2", N: n} }

func TestDecide(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		snapshot *pool.Snapshot
		want     string // the decision, and what is remembered
	}{
		"before any order": {snapshot("", ""), "launch 1: 1 ordered, 0 counted"},
		"at the minimum":   {snapshot("a", ""), "nothing"},
		"remembered":       {snapshot("a", `{"number":3}`), "launch 2: 3 ordered, 1 counted"},
		"a number": {
			snapshot("a", "", set(3)), `launch 2: an operator ordered 3; 3 ordered, 1 counted {"number":3}`,
		},
		"one more": {
			snapshot("aa", `{"number":2}`, adjust(1)),
			`launch 1: an operator ordered +1; 3 ordered, 2 counted {"number":3}`,
		},
		"one after the other": {
			snapshot("a", "", set(3), adjust(-1)),
			`launch 1: an operator ordered 3; an operator ordered -1; 2 ordered, 1 counted {"number":2}`,
		},
		"what is there already": {snapshot("aa", "", set(2)), `nothing: an operator ordered 2 {"number":2}`},
		"too many": {
			snapshot("a", "", set(9)),
			`launch 3: an operator ordered 9; 4 ordered, 1 counted (maximum 4 drops 5 of the order) {"number":4}`,
		},
		"what was dropped stays dropped": {
			snapshot("a", "", set(9), adjust(-1)),
			"launch 2: an operator ordered 9; an operator ordered -1; 3 ordered, 1 counted " +
				`(maximum 4 drops 5 of the order) {"number":3}`,
		},
		"too few": {
			snapshot("aa", "", set(0)),
			"stop [i-0]: an operator ordered 0; 1 ordered, 2 counted, 1 to stop " +
				`(minimum 1 drops 1 of the order) {"number":1}`,
		},
		"busy ones stay":             {snapshot("bab", `{"number":2}`), "stop [i-1]: 2 ordered, 3 counted, 1 to stop"},
		"one that starts is as good": {snapshot("bs", `{"number":1}`), "stop [i-1]: 1 ordered, 2 counted, 1 to stop"},
		"all busy": {
			snapshot("bb", `{"number":1}`), "nothing: 1 ordered, 2 counted, 0 to stop; 1 are at work or too young",
		},
		"draining ones do not count": {snapshot("ad", `{"number":2}`), "launch 1: 2 ordered, 1 counted"},
		"limits changed since":       {snapshot("aaaa", `{"number":9}`), "nothing"},
		"and one less is one less than there is": {
			snapshot("aaaa", `{"number":9}`, adjust(-1)),
			`stop [i-0]: an operator ordered -1; 3 ordered, 4 counted, 1 to stop {"number":3}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := made(t).Decide(c.snapshot)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(d.String() + " " + string(d.Memory)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			for _, e := range d.Stop {
				if e.Cause != pool.Operator {
					t.Errorf("%s: got cause %s, want %s", e.Instance, e.Cause, pool.Operator)
				}
			}
		})
	}
}

// TestYoungOnesStay: lifetimes apply to orders, too.
func TestYoungOnesStay(t *testing.T) {
	t.Parallel()
	s := snapshot("aa", `{"number":1}`)
	s.Limits.MinimumLifetime = 2 * time.Hour
	d, err := made(t).Decide(s)
	if err != nil || len(d.Stop) > 0 {
		t.Errorf("got %s, %v, want nothing stopped", d.String(), err)
	}
}

// TestDamagedMemory: an unknown number is not the minimum, and an order that sets it helps.
func TestDamagedMemory(t *testing.T) {
	t.Parallel()
	for _, memory := range []string{"{", `{"number":-1}`, `{"nomber":1}`, `{"number":"many"}`} {
		if d, err := made(t).Decide(snapshot("aaa", memory, adjust(1), set(2))); err != nil || len(d.Stop) != 1 {
			t.Errorf("%s and an order of 2: got %s, %v, want one stopped", memory, d.String(), err)
		}
		d, err := made(t).Decide(snapshot("aaa", memory, adjust(1)))
		const advice = "order a number, with controller pool scale p N"
		if err == nil || !strings.Contains(err.Error(), advice) || !d.Empty() || d.Memory != nil {
			t.Errorf("%s: got %s, %v, want it refused", memory, d.String(), err)
		}
	}
}
