package walkthrough

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cloudmaster/integration/wire"
	"cloudmaster/internal/backoff"
)

// BenchmarkReaction is the time from a job on the queue to the call of RunInstances, with
// jobs at random moments: by polling alone, and with the hint that feed-primes leaves.
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
			for label, at := range map[string]int{"p50-ms": len(took) / 2, "p99-ms": len(took) * 99 / 100, "max-ms": len(took) - 1} {
				b.ReportMetric(float64(took[at].Milliseconds()), label)
			}
			b.ReportMetric(0, "ns/op") // the pauses are in it
		})
	}
}

// sendSilently puts a job on the queue, past the wire.
func sendSilently(w *world) time.Time {
	w.sends("primes-work-"+deployment, "1|6573")
	return time.Now()
}

// sendAndTell has feed-primes send it. It is sent when the call has passed the wire.
func sendAndTell(w *world) (sent time.Time) {
	calls := func() int { return w.wire.Counts()[wire.Call{Service: "sqs", Action: "SendMessageBatch"}] }
	before := calls()
	w.run("feed-primes", "--backend", "aws://"+region, "--queue", "primes-work-"+deployment, "--job", "1|6573")
	return w.when(func() bool { return calls() > before })
}

// when waits for something and returns the time, to the millisecond.
func (w *world) when(is func() bool) time.Time {
	w.t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) || !backoff.Wait(w.t.Context(), time.Millisecond) {
			w.t.Fatal("it does not happen")
		}
	}
	return time.Now()
}
