package walkthrough

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/integration/sample"
	"cloudmaster/integration/wire"
)

// TestOutage: for 30 seconds AWS cannot be reached, half of the time with calls refused and
// half with calls that hang. LocalStack keeps what it has in memory, so it is the wire that
// is cut and not LocalStack that is stopped.
func TestOutage(t *testing.T) {
	w := begin(t, plot{defaults: map[string]string{"visibility_timeout": "60s", "minimum_lifetime": "1h"}})
	w.controllerStarts()
	w.allocatorStarts()
	w.feeds("1|6573")
	w.processed("1|6573") // its worker stays, idle
	client := w.connected()
	w.feeds("2|" + endless)
	w.worksOn(0, "2")
	set, before := fmt.Sprint(ids(w.set())), len(w.listed())

	mark := w.controller.Mark()
	lift := w.wire.Inject(wire.Match{}, wire.Refuse(), 0)
	quiet := func() (string, bool) {
		now := len(w.listed())
		return fmt.Sprintf("%d instances, set %v", now, ids(w.set())), now == before && fmt.Sprint(ids(w.set())) == set
	}
	w.still("the same instances and the same set", 15*time.Second, quiet)
	hang := w.wire.Inject(wire.Match{}, wire.Hang(), 0)
	lift()
	w.still("the same instances and the same set", 15*time.Second, quiet)
	w.reports(mark, "primes Instances: ", "Queue Depth: unknown")
	hang()

	w.processed("2|" + endless)
	w.still("the same instances and the same set", 10*time.Second, quiet)
	if !sample.Fibonacci(client.Output(0)) || client.Ended() {
		t.Errorf("the client got %q", client.Output(0))
	}
	w.feeds("3|6573")
	w.processed("1|6573", "2|"+endless, "3|6573")
}

// TestThrottling: AWS answers "too often" for a while.
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

// TestQueueDeletedUnderUs is reported and nothing shrinks; when the queue is back, so is the pool.
func TestQueueDeletedUnderUs(t *testing.T) {
	w := begin(t, plot{pools: primesPool, defaults: map[string]string{"minimum_lifetime": "20s"}})
	w.controllerStarts()
	w.feeds("1|6573")
	w.processed("1|6573")
	w.deletesQueue("primes-work-" + deployment)
	w.reports(w.controller.Mark(), "primes Instances: 1 Queue Depth: unknown")
	w.still("the worker kept", 30*time.Second, func() (string, bool) { n := len(w.listed()); return fmt.Sprint(n), n == 1 })
	w.setup()
	w.feeds("2|6573")
	w.processed("1|6573", "2|6573")
}

// TestStatusLateTwiceAndOutOfOrder: SQS delivers what a busy worker said before it was busy.
func TestStatusLateTwiceAndOutOfOrder(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	w.feeds("1|" + endless)
	worker := w.worksOn(0, "1")
	old := func(seconds, sequence int) string {
		at := time.Now().Add(-time.Duration(seconds) * time.Second).UTC().Format(time.RFC3339Nano)
		return fmt.Sprintf(`{"type":"status","instance_id":%q,"state":"active","status":"idle","load_estimate":0,"timestamp":%q,"sequence":%d}`, worker, at, sequence)
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
