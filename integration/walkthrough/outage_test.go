package walkthrough

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/integration/sample"
	"cloudmaster/integration/wire"
)

// TestOutage: AWS cannot be reached for 30 seconds. In the first half calls are refused, in the
// second half they hang. The wire is cut and LocalStack goes on running, because LocalStack has
// everything only in memory.
func TestOutage(t *testing.T) {
	w := begin(t, plot{defaults: map[string]string{"visibility_timeout": "60s", "minimum_lifetime": "1h"}})
	w.controllerStarts()
	w.allocatorStarts()
	w.feeds("1|6573")
	w.processed("1|6573") // its worker stays and is idle
	client := w.connected()
	w.feeds("2|" + endless)
	w.worksOn(0, "2")
	set, before := fmt.Sprint(ids(w.set())), len(w.listed())

	mark := w.controller.Mark()
	lift := w.wire.Inject(wire.Match{}, wire.Refuse(), 0)
	quiet := func() (string, bool) {
		now := len(w.listed())
		return fmt.Sprintf("%d instances, active set %v", now, ids(w.set())),
			now == before && fmt.Sprint(ids(w.set())) == set
	}
	w.still("the same instances and the same active set", 15*time.Second, quiet)
	hang := w.wire.Inject(wire.Match{}, wire.Hang(), 0)
	lift()
	w.still("the same instances and the same active set", 15*time.Second, quiet)
	w.reports(mark, "primes Instances: ", "Queue Depth: unknown")
	hang()

	w.processed("2|" + endless)
	w.still("the same instances and the same active set", 10*time.Second, quiet)
	if !sample.Fibonacci(client.Output(0)) || client.Ended() {
		t.Errorf("the client got %q", client.Output(0))
	}
	w.feeds("3|6573")
	w.processed("1|6573", "2|"+endless, "3|6573")
}

// TestThrottling: for a while AWS refuses calls because there are too many.
func TestThrottling(t *testing.T) {
	w := begin(t, plot{defaults: map[string]string{"visibility_timeout": "60s", "minimum_lifetime": "1h"}})
	w.controllerStarts()
	w.feeds("1|6573")
	w.processed("1|6573")
	before := len(w.listed())
	var lifts []func()
	for _, service := range []string{"ec2", "sqs", "s3"} {
		lifts = append(lifts, w.wire.Inject(wire.Match{Service: service}, wire.Throttle(), 0))
	}
	mark := w.controller.Mark()
	w.still("the same instances", 40*time.Second, func() (string, bool) { // twice the watchdog's interval
		now := len(w.listed())
		return fmt.Sprint(now), now == before
	})
	w.reports(mark, "primes Instances: 1 Queue Depth: unknown")
	for _, lift := range lifts {
		lift()
	}
	w.feeds("2|6573")
	w.processed("1|6573", "2|6573")
}

// TestQueueDeletedUnderUs: the controller reports that the queue is gone, and ends no instance.
// When the queue is back, the pool works again.
func TestQueueDeletedUnderUs(t *testing.T) {
	w := begin(t, plot{pools: primesPool, defaults: map[string]string{"minimum_lifetime": "20s"}})
	w.controllerStarts()
	w.feeds("1|6573")
	w.processed("1|6573")
	w.deletesQueue("primes-work-" + deployment)
	w.reports(w.controller.Mark(), "primes Instances: 1 Queue Depth: unknown")
	w.still("the worker still there", 30*time.Second, func() (string, bool) {
		n := len(w.listed())
		return fmt.Sprint(n), n == 1
	})
	w.setup()
	w.feeds("2|6573")
	w.processed("1|6573", "2|6573")
}

// TestStatusLateTwiceAndOutOfOrder: SQS delivers late, and several times, what a busy worker
// reported before it was busy.
func TestStatusLateTwiceAndOutOfOrder(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	w.feeds("1|" + endless)
	worker := w.worksOn(0, "1")
	old := func(seconds, sequence int) string {
		at := time.Now().Add(-time.Duration(seconds) * time.Second).UTC().Format(time.RFC3339Nano)
		return fmt.Sprintf(`{"type":"status","instance_id":%q,"state":"active","status":"idle","load_estimate":0,`+
			`"timestamp":%q,"sequence":%d}`, worker, at, sequence)
	}
	first, second := old(90, 1), old(80, 2)
	for range 5 {
		w.sends("primes-status-"+deployment, second, first, first, second)
	}
	w.sees("them counted as outdated", func() (string, bool) {
		n := w.metric(`cloudmaster_status_messages_total{outcome="outdated",pool="primes"}`)
		return fmt.Sprint(n), n >= 20
	})
	w.processed("1|" + endless)
	w.reports(0, "primes "+worker+" Processed: 1 ")
}
