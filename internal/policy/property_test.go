package policy_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

// anyJudge returns a judge with a random policy and random, valid settings.
func anyJudge(tb testing.TB, rng *rand.Rand) policy.Judge {
	tb.Helper()
	limits := pool.Limits{
		Minimum: rng.IntN(4), MinimumLifetime: time.Duration(rng.IntN(2)) * 5 * time.Minute,
		MinimumActiveTime: time.Duration(rng.IntN(2)) * 2 * time.Minute,
	}
	limits.Maximum = limits.Minimum + rng.IntN(6)
	judge := policy.Judge{
		Watchdog: policy.Watchdog{Interval: time.Duration(rng.IntN(4)) * 10 * time.Minute, BreakerRatio: 0.5},
	}
	switch rng.IntN(3) {
	case 0:
		judge.Policy = policy.Fixed{}
	case 1:
		judge.Policy = newJob(tb, policy.JobSettings{
			StartThreshold: 1 + rng.IntN(3), StopThreshold: rng.IntN(2), IdleThreshold: 1 + rng.IntN(2),
		})
	case 2:
		limits.Drain = true
		judge.Policy = newResource(tb, resourceDefaults)
	}
	judge.Limits = limits
	return judge
}

func anySnapshot(tb testing.TB, rng *rand.Rand) (string, *pool.Snapshot) {
	tb.Helper()
	fleet := fleetOf(rng, 9,
		"starting starting/silent idle idle idle/young busy busy/silent mute mute/silent 0 0.1 0.8 1.5/silent "+
			"draining draining:0.4 draining:0.4/silent idle/leaving 0.8/leaving busy/leaving/silent "+
			"draining:0.4/leaving stopping")
	return fleet, &pool.Snapshot{
		Now: pooltest.Now, Instances: pooltest.Fleet(tb, fleet), Stale: rng.IntN(8) == 0,
		Requests: rng.IntN(3) * rng.IntN(9),
		Backlog:  pool.Backlog{Known: rng.IntN(5) > 0, Visible: rng.IntN(3) * rng.IntN(5), InFlight: rng.IntN(4)},
	}
}

func TestJudgeInvariants(t *testing.T) {
	t.Parallel()
	forSeeds(t, 4_000, func(rng *rand.Rand) error {
		judge := anyJudge(t, rng)
		fleet, s := anySnapshot(t, rng)
		left := pool.Budget{Starts: rng.IntN(4), Stops: rng.IntN(4)}
		d, v := judge.Decide(s, left)
		err := invariants(judge, s, left, &d, v)
		if again, w := judge.Decide(s, left); err == nil && !reflect.DeepEqual([]any{again, w}, []any{d, v}) {
			err = fmt.Errorf("then %s, %+v", &again, w)
		}
		if err == nil && !reflect.DeepEqual(s.Instances, pooltest.Fleet(t, fleet)) {
			err = fmt.Errorf("the snapshot changed: %+v", s.Instances)
		}
		if err != nil {
			return fmt.Errorf("%w\n%q, backlog %+v, %d requests, stale %v, left %+v\n%+v\ngot %s, %+v", err, fleet,
				s.Backlog, s.Requests, s.Stale, left, judge, &d, v)
		}
		return nil
	})
}

// invariants checks those of ARCHITECTURE.md, "What must always be true", that one decision can break.
func invariants(judge policy.Judge, s *pool.Snapshot, left pool.Budget, d *pool.Decision, v policy.Verdict) error {
	after, gone, leaves := 0, 0, s.Leaving()
	if v.Breaker && len(v.Hung) > 1 {
		return fmt.Errorf("the breaker is open and %v are hung", v.Hung)
	}
	seen := make(map[pool.InstanceID]bool)
	for _, id := range slices.Concat(d.Reactivate, pool.IDs(d.ShutDown), pool.IDs(d.Stop)) {
		if seen[id] {
			return fmt.Errorf("%s is named twice", id)
		}
		seen[id] = true
	}
	for i := range s.Instances {
		in := &s.Instances[i]
		hung, stops := slices.Contains(pool.IDs(v.Hung), in.ID), slices.Contains(pool.IDs(d.Stop), in.ID)
		atWork := in.State == pool.Active && !in.Idle()
		leaving := in.State == pool.Active && in.Interrupted
		ends := stops || slices.Contains(pool.IDs(d.ShutDown), in.ID)
		if leaving && !hung {
			leaves++
		}
		switch {
		case hung && !stops:
			return fmt.Errorf("%s is hung and not stopped", in.ID)
		case stops && atWork && !hung:
			return fmt.Errorf("%s is at work and stopped", in.ID)
		case leaving && !hung && !slices.Contains(pool.IDs(d.ShutDown), in.ID):
			return fmt.Errorf("%s is about to end and is not shut down", in.ID)
		case stops && leaving && !hung:
			return fmt.Errorf("%s is stopped for what it says", in.ID)
		case in.Interrupted && slices.Contains(d.Reactivate, in.ID):
			return fmt.Errorf("%s is about to end and is reactivated", in.ID)
		case ends && !leaving && (s.Stale || v.Breaker && !hung):
			return fmt.Errorf("%s ends and we are blind", in.ID)
		case ends && in.State == pool.Stopping:
			return fmt.Errorf("%s ends twice", in.ID)
		}
		if in.Counted() && !ends || slices.Contains(d.Reactivate, in.ID) {
			after++
		}
		if in.Counted() && ends && !hung && !leaving {
			gone++
		}
		delete(seen, in.ID)
	}
	after += d.Launch
	over := max(0, s.Counted()-judge.Limits.Maximum)
	switch {
	case len(seen) > 0:
		return fmt.Errorf("names strangers: %v", seen)
	case d.Launch < 0:
		return fmt.Errorf("launches %d", d.Launch)
	case after > max(judge.Limits.Maximum, s.Counted()):
		return fmt.Errorf("%d afterwards, maximum %d, %d before", after, judge.Limits.Maximum, s.Counted())
	case after < min(judge.Limits.Minimum, judge.Limits.Maximum-leaves): // what is about to end takes up room
		return fmt.Errorf("%d afterwards, minimum %d", after, judge.Limits.Minimum)
	case gone > left.Stops+over:
		return fmt.Errorf("%d end, %d over, stop limit leaves %d", gone, over, left.Stops)
	case d.Spent.Starts > left.Starts || d.Spent.Stops > left.Stops:
		return fmt.Errorf("spends %+v", d.Spent)
	}
	if _, job := judge.Policy.(policy.Job); job && !s.Backlog.Known && gone > over {
		return fmt.Errorf("%d end, %d over, and the backlog is unknown", gone, over)
	}
	return nil
}

// TestJudgeSettles carries decisions out at once, while nothing else changes, until the judge decides nothing
// more. On the way there, a pool must not both grow and shrink.
func TestJudgeSettles(t *testing.T) {
	t.Parallel()
	forSeeds(t, 4_000, func(rng *rand.Rand) error {
		judge := anyJudge(t, rng)
		fleet, s := anySnapshot(t, rng)
		var history []string
		grew, shrank := false, false
		for range 12 {
			d, _ := judge.Decide(s, pool.Budget{Starts: 9, Stops: 9})
			if again, _ := judge.Decide(s, pool.Budget{Starts: 9, Stops: 9}); d.Empty() && !again.Empty() {
				return fmt.Errorf("nothing, then %s", &again)
			}
			if d.Empty() {
				return nil
			}
			history = append(history, d.String())
			grew = grew || len(history) > 1 && d.Launch+len(d.Reactivate) > 0
			shrank = shrank || len(history) > 1 && shrinks(s, &d)
			if grew && shrank {
				break
			}
			carryOut(s, &d, len(history))
		}
		return fmt.Errorf("%q, backlog %+v, %d requests, %+v: does not come to rest: %q", fleet, s.Backlog, s.Requests,
			judge, history)
	})
}

// shrinks reports whether there are fewer counted instances after a decision, and not only because some failed or are
// about to end: these are replaced as far as the maximum allows, which is neither growth nor shrinkage.
func shrinks(s *pool.Snapshot, d *pool.Decision) bool {
	change := d.Launch + len(d.Reactivate)
	wanted := 0
	for _, e := range slices.Concat(d.Stop, d.ShutDown) {
		in := s.Find(e.Instance)
		if in == nil || !in.Counted() {
			continue
		}
		if change--; !e.Cause.Failed() && e.Cause != pool.Interrupted {
			wanted++
		}
	}
	return change < 0 && wanted > 0
}

func carryOut(s *pool.Snapshot, d *pool.Decision, round int) {
	for i := range s.Instances {
		in := &s.Instances[i]
		switch {
		case slices.Contains(pool.IDs(d.Stop), in.ID):
			in.State, in.StateSince = pool.Stopping, s.Now
		case slices.Contains(pool.IDs(d.ShutDown), in.ID):
			in.State, in.StateSince = pool.ShutDown, s.Now
		case slices.Contains(d.Reactivate, in.ID):
			in.State, in.StateSince, in.ActiveAt = pool.Active, s.Now, s.Now
		}
	}
	for n := range d.Launch {
		s.Instances = append(s.Instances, pool.Instance{
			ID:    pool.InstanceID(fmt.Sprintf("j-%02d-%02d", round, n)),
			State: pool.Startup, StateSince: s.Now, Launched: s.Now, HeardAt: s.Now,
		})
	}
	pool.SortInstances(s.Instances)
}
