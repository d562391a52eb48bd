package walkthrough

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cloudmaster/integration/wire"
	"cloudmaster/internal/backoff"
)

// BenchmarkReaction measures the time from a job on the queue to the call of RunInstances, with
// jobs at random moments: once with polling alone, and once with the hint that feed-primes leaves.
func BenchmarkReaction(b *testing.B) {
	const poll = 5 * time.Second
	for name, send := range map[string]func(*world) time.Time{"poll": sendSilently, "hint": sendAndTell} {
		b.Run(name, func(b *testing.B) {
			w := begin(b, plot{noMetal: true, pools: `  primes:
    policy: job
    image: walk-primes-*
    cloud: aws
    maximum_number_of_instances: 1000
    start_threshold: 1
    start_limit: 1000
    watchdog_interval: 0s
    policy_interval: 1m
    poll_interval: 5s
`})
			w.controllerStarts()
			var took []time.Duration
			for b.Loop() {
				backoff.Wait(b.Context(), rand.N(poll))
				before := w.launched()
				sent := send(w)
				took = append(took, w.when(func() bool { return w.launched() > before }).Sub(sent))
			}
			slices.Sort(took)
			for label, at := range map[string]int{
				"p50-ms": len(took) / 2, "p99-ms": len(took) * 99 / 100, "max-ms": len(took) - 1,
			} {
				b.ReportMetric(float64(took[at].Milliseconds()), label)
			}
			b.ReportMetric(0, "ns/op") // not reported: it would include the pauses between jobs
		})
	}
}

// sendSilently sends a job directly to LocalStack, without a hint and without the wire.
func sendSilently(w *world) time.Time {
	w.sends("primes-work-"+deployment, "1|6573")
	return time.Now()
}

// sendAndTell lets feed-primes send a job. The job counts as sent when the call has passed the wire.
func sendAndTell(w *world) (sent time.Time) {
	calls := func() int { return w.wire.Counts()[wire.Call{Service: "sqs", Action: "SendMessageBatch"}] }
	before := calls()
	w.run("feed-primes", "--backend", "aws://"+region, "--queue", "primes-work-"+deployment, "--job", "1|6573")
	return w.when(func() bool { return calls() > before })
}

// when waits until is returns true, and returns that time, to the millisecond.
func (w *world) when(is func() bool) time.Time {
	w.t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) || !backoff.Wait(w.t.Context(), time.Millisecond) {
			w.t.Fatal("what the benchmark waits for does not happen")
		}
	}
	return time.Now()
}
