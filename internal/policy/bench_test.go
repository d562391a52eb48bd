package policy_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cloudmaster/internal/benchtest"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/policy/manual"
	"cloudmaster/internal/policy/schedule"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

const (
	steady = "busy busy 0.5 0.6 0.4 0.5 0.7 starting draining:0.3 idle"      // little to do
	storm  = "busy busy busy 0.5 0.1 0.2 idle starting draining busy/silent" // a tenth each idle, drained and hung
)

// crowd returns a judge and a snapshot of n instances, which are a random mix of the words.
func crowd(b *testing.B, n int, kinds string, resource bool) (policy.Judge, *pool.Snapshot) {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	limits := lifetimes
	limits.Minimum, limits.Maximum, limits.Drain = 1, 2*n, resource
	judge := policy.Judge{Limits: limits, Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5}}
	if resource {
		judge.Policy = newResource(b, resourceDefaults)
	} else {
		judge.Policy = newJob(b, jobDefaults)
	}
	fleet := pooltest.Fleet(b, kinds)
	s := &pool.Snapshot{Now: pooltest.Now, Backlog: inFlight(0, n/2), Instances: make([]pool.Instance, n)}
	for i := range s.Instances {
		s.Instances[i] = fleet[rng.IntN(len(fleet))]
		s.Instances[i].ID = pool.InstanceID(fmt.Sprintf("i-%017d", i))
	}
	return judge, s
}

// BenchmarkDecide judges 10,000 instances in 100 pools. Every second pool has the job policy.
func BenchmarkDecide(b *testing.B) {
	for name, kinds := range map[string]string{"steady": steady, "storm": storm} {
		b.Run(name, func(b *testing.B) {
			judges, snapshots := make([]policy.Judge, 100), make([]*pool.Snapshot, 100)
			for i := range judges {
				judges[i], snapshots[i] = crowd(b, 100, kinds, i%2 == 0)
			}
			b.ReportAllocs()
			for b.Loop() {
				for i := range judges {
					judges[i].Decide(snapshots[i], pool.Budget{Starts: 100, Stops: 100})
				}
			}
		})
	}
}

// scaled returns a judge and a snapshot of n instances, of which many are stopped, drained or reactivated at once.
func scaled(b *testing.B, what string, n int) (policy.Judge, *pool.Snapshot) {
	b.Helper()
	judge, s := crowd(b, n, storm, what == "resource" || what == "surplus")
	switch what {
	case "surplus": // ends half of them
		judge.Limits.Minimum, judge.Limits.Maximum = 0, n/3
	case "regrow": // reactivates all that drain, and launches more
		judge.Limits.Minimum, judge.Limits.Maximum = n, n
	case "fixed":
		judge.Policy, judge.Limits.Maximum = policy.Fixed{}, n/3
	case "manual": // ends half of them
		judge.Policy = manual.Manual{}
		s.Orders = []pool.Order{{ID: "1", Absolute: true, N: n / 3}}
	case "schedule":
		kind := schedule.Kind()
		least := 1
		over, err := kind.New(&schedule.Settings{Windows: []schedule.Window{{
			Days: []string{"mon-sun"}, From: "00:00", To: "24:00", Timezone: "UTC", Minimum: &least,
		}}}, judge.Policy)
		if err != nil {
			b.Fatal(err)
		}
		judge.Policy = over
	case "retiring":
		judge = policy.Retire(judge)
	}
	s.Limits = judge.Limits
	return judge, s
}

func benchmarkScaled(b *testing.B, what string, n int) {
	b.Helper()
	judge, s := scaled(b, what, n)
	b.ReportAllocs()
	defer benchtest.CPU(b)()
	for b.Loop() {
		if d, v := judge.Decide(s, pool.Budget{Starts: n, Stops: n}); d.Empty() || v.Failed != nil {
			b.Fatalf("decided nothing: %v", v.Failed)
		}
	}
}

// BenchmarkDecideScaling judges one pool of growing size. The time per instance must stay the same, except for the
// logarithm that sorting adds, and for what a pool costs that does not fit into the processor's cache.
func BenchmarkDecideScaling(b *testing.B) {
	for _, what := range []string{"job", "resource", "surplus", "regrow"} {
		for _, n := range []int{1_000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/n=%d", what, n), func(b *testing.B) {
				benchmarkScaled(b, what, n)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/instance")
			})
		}
	}
}

// BenchmarkGrowth is judged by integration/growth: ten times the instances must not cost much more than ten times the
// time, in every policy.
func BenchmarkGrowth(b *testing.B) {
	kinds := []string{"job", "resource", "surplus", "regrow", "fixed", "manual", "schedule", "retiring"}
	for _, what := range kinds {
		for _, n := range []int{300, 3_000} {
			b.Run(fmt.Sprintf("decide-%s/n=%d", what, n), func(b *testing.B) { benchmarkScaled(b, what, n) })
		}
	}
}
