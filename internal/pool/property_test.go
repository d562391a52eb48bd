package pool_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

var seed = flag.Uint64("seed", 0, "seed of the random tests; 0 takes a random one")

// TestApplyInvariants asks for random decisions, also forbidden ones, and checks that what Apply returns is
// allowed.
func TestApplyInvariants(t *testing.T) {
	t.Parallel()
	first := *seed
	rounds := uint64(1)
	if first == 0 {
		first, rounds = rand.Uint64()>>1, 5000
	}
	for n := range rounds {
		rng := rand.New(rand.NewPCG(first+n, 0))
		fleet := randomFleet(rng)
		s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, fleet), Stale: rng.IntN(8) == 0}
		limits, ask, left := randomLimits(rng), randomAsk(rng),
			pool.Budget{Starts: rng.IntN(5) - 1, Stops: rng.IntN(5) - 1}
		got := limits.Apply(&s, ask, left)
		o := outcome{s: &s, limits: limits, ask: &ask, left: left, got: &got}
		if err := o.check(); err != nil {
			t.Fatalf("-seed %d: %v\nfleet %q, stale %v, limits %+v, left %+v\nasked %s\n  got %s",
				first+n, err, fleet, s.Stale, limits, left, &ask, &got)
		}
		if again := limits.Apply(&s, ask, left); !reflect.DeepEqual(again, got) {
			t.Fatalf("-seed %d: got %s, then %s, want the same twice", first+n, &got, &again)
		}
		if !reflect.DeepEqual(s.Instances, pooltest.Fleet(t, fleet)) {
			t.Fatalf("-seed %d: snapshot changed: %+v", first+n, s.Instances)
		}
	}
}

func randomFleet(rng *rand.Rand) string {
	words := strings.Fields("starting starting/young idle idle idle/young idle/fresh busy mute 0.1 0.8 1.5/fresh " +
		"draining draining:0.4 draining/young draining:0.4/leaving draining/leaving stopping")
	var fleet []string
	for range rng.IntN(9) {
		fleet = append(fleet, words[rng.IntN(len(words))])
	}
	return strings.Join(fleet, " ")
}

func randomLimits(rng *rand.Rand) pool.Limits {
	l := pool.Limits{Minimum: rng.IntN(5), Drain: rng.IntN(2) == 0}
	l.Maximum = l.Minimum + rng.IntN(6)
	l.MinimumLifetime = time.Duration(rng.IntN(3)) * 5 * time.Minute
	l.MinimumActiveTime = time.Duration(rng.IntN(3)) * 2 * time.Minute
	return l
}

func randomAsk(rng *rand.Rand) pool.Decision {
	list := func() (out []pool.InstanceID) {
		for range rng.IntN(5) {
			out = append(out, pool.InstanceID(fmt.Sprintf("i-%d", rng.IntN(11))))
		}
		return out
	}
	return pool.Decision{Launch: rng.IntN(8) - 2, Reactivate: list(), ShutDown: ends(list()...), Stop: ends(list()...)}
}

// outcome is what Apply has returned for a decision, with all that it was given.
type outcome struct {
	s      *pool.Snapshot
	limits pool.Limits
	ask    *pool.Decision
	left   pool.Budget
	got    *pool.Decision
}

func (o outcome) check() error {
	for _, check := range []func() error{o.ids, o.bounds, o.shrinkage, o.growth, o.budget} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (o outcome) find(id pool.InstanceID) *pool.Instance {
	for i := range o.s.Instances {
		if o.s.Instances[i].ID == id {
			return &o.s.Instances[i]
		}
	}
	return nil
}

// ids checks that each instance exists, is named once, changes its state as the state machine allows, and is
// not stopped while it is at work.
func (o outcome) ids() error {
	seen := make(map[pool.InstanceID]bool)
	for _, list := range []struct {
		verb string
		ids  []pool.InstanceID
		may  func(*pool.Instance) bool
	}{
		{"reactivates", o.got.Reactivate, (*pool.Instance).Reactivatable},
		{"shuts down", pool.IDs(o.got.ShutDown), func(i *pool.Instance) bool { return i.State == pool.Active }},
		{"stops", pool.IDs(o.got.Stop), func(i *pool.Instance) bool {
			return i.State == pool.Startup || i.State == pool.ShutDown || i.Idle()
		}},
	} {
		for _, id := range list.ids {
			i := o.find(id)
			if i == nil || seen[id] || !list.may(i) {
				return fmt.Errorf("%s %s: %+v, seen before: %v", list.verb, id, i, seen[id])
			}
			seen[id] = true
		}
	}
	return nil
}

func (o outcome) leaving(states ...pool.State) int {
	n := 0
	for _, id := range pool.IDs(slices.Concat(o.got.ShutDown, o.got.Stop)) {
		if slices.Contains(states, o.find(id).State) {
			n++
		}
	}
	return n
}

// bounds checks that the decision does not lead past the maximum, and reaches at least the minimum.
func (o outcome) bounds() error {
	after := o.s.Counted() - o.leaving(pool.Startup, pool.Active) + len(o.got.Reactivate) + o.got.Launch
	drain := o.s.Count(pool.ShutDown) - len(o.got.Reactivate) - o.leaving(pool.ShutDown) + len(o.got.ShutDown)
	switch {
	case o.got.Launch < 0:
		return fmt.Errorf("launches %d", o.got.Launch)
	case after < min(o.limits.Minimum, o.limits.Maximum-o.s.Leaving()): // what is about to end takes up room
		return fmt.Errorf("leaves %d, minimum %d", after, o.limits.Minimum)
	case len(o.got.Reactivate) > 0 && after > o.limits.Maximum:
		return fmt.Errorf("reactivates up to %d, maximum %d", after, o.limits.Maximum)
	case o.got.Launch > 0 && after+drain > o.limits.Maximum:
		return fmt.Errorf("launches up to %d and %d draining, maximum %d", after, drain, o.limits.Maximum)
	}
	if active := o.s.Count(pool.Active); o.limits.Drain &&
		active-o.leaving(pool.Active) < min(active, o.limits.Minimum) {
		return fmt.Errorf("leaves %d of %d active, minimum %d", active-o.leaving(pool.Active), active, o.limits.Minimum)
	}
	return nil
}

// shrinkage checks that nothing ends while the snapshot is stale. Above the maximum, all that may go must go.
// Otherwise nothing ends that was not asked for or is too young.
func (o outcome) shrinkage() error {
	gone := len(o.got.ShutDown) + len(o.got.Stop)
	over := o.s.Counted() - o.limits.Maximum
	switch {
	case o.s.Stale && gone > 0:
		return fmt.Errorf("ends %d while the inventory is unknown", gone)
	case o.s.Stale:
		return nil
	case over > 0:
		may := o.s.Pick(math.MaxInt, func(i *pool.Instance) bool {
			return i.Idle() || i.State == pool.Startup || o.limits.Drain && i.State == pool.Active
		}, pool.ByVictim)
		if got, want := o.leaving(pool.Startup, pool.Active), min(over, len(may)); got < want {
			return fmt.Errorf("ends %d of a surplus of %d, %d may go", got, over, len(may))
		}
		return nil
	}
	for _, id := range pool.IDs(o.got.ShutDown) {
		if !slices.Contains(pool.IDs(o.ask.ShutDown), id) || !o.limits.Settled(o.s.Now, o.find(id)) {
			return fmt.Errorf("shuts down %s", id)
		}
	}
	for _, id := range pool.IDs(o.got.Stop) {
		if !slices.Contains(pool.IDs(o.ask.Stop), id) || !o.limits.Mature(o.s.Now, o.find(id)) {
			return fmt.Errorf("stops %s", id)
		}
	}
	return nil
}

// growth checks that draining instances are reactivated before new ones are launched, and that the pool grows
// only by what was asked for or what the minimum lacks.
func (o outcome) growth() error {
	grown := len(o.got.Reactivate) + o.got.Launch
	draining := -len(o.got.Reactivate)
	for i := range o.s.Instances {
		if o.s.Instances[i].Reactivatable() {
			draining++
		}
	}
	wanted := max(0, o.ask.Launch) + len(o.ask.Reactivate)
	missing := o.limits.Minimum - o.s.Counted() + o.leaving(pool.Startup, pool.Active)
	switch {
	case o.got.Launch > 0 && draining > 0:
		return fmt.Errorf("launches %d beside %d draining", o.got.Launch, draining)
	case grown > max(wanted, missing):
		return fmt.Errorf("grows by %d, asked for %d, missing %d", grown, wanted, missing)
	}
	return nil
}

// budget checks that no more is spent than was left, and that what is spent is what happens.
func (o outcome) budget() error {
	spent := o.got.Spent
	if spent.Starts < 0 || spent.Starts > max(0, o.left.Starts) || spent.Stops < 0 ||
		spent.Stops > max(0, o.left.Stops) {
		return fmt.Errorf("spends %+v", spent)
	}
	stops := o.leaving(pool.Startup, pool.Active)
	if o.s.Counted() <= o.limits.Maximum && spent.Stops != stops {
		return fmt.Errorf("ends %d, spends %d", stops, spent.Stops)
	}
	missing := max(0, o.limits.Minimum-o.s.Counted()+stops-len(o.got.Reactivate))
	if want := max(0, o.got.Launch-missing); spent.Starts != want {
		return fmt.Errorf("launches %d, %d missing, spends %d", o.got.Launch, missing, spent.Starts)
	}
	asked := pool.Ask{
		Launch: o.ask.Launch, Reactivate: len(o.ask.Reactivate), ShutDown: len(o.ask.ShutDown), Stop: len(o.ask.Stop),
	}
	if o.got.Asked != asked {
		return fmt.Errorf("says that %+v was asked", o.got.Asked)
	}
	return nil
}
