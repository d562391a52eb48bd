package walkthrough

import (
	"testing"
	"time"

	"cloudmaster/integration/aws/iam"
)

// TestStoryLife: setup, a job done, a server used, and a teardown that leaves nothing in the account, on an IAM that
// takes a second to know of each change.
func TestStoryLife(t *testing.T) {
	s := newAmazon(t, iam.Options{Lag: time.Second}).begin(region, plot{})
	s.setup()
	if made := s.amazon.left(region); len(made) < 10 {
		t.Fatalf("setup has made only %q", made)
	}
	s.controllerStarts()
	s.allocatorStarts()
	s.feeds("1|6573")
	server := s.connected()
	s.processed("1|6573")
	s.leave(server)
	s.sees("no instances", s.empty("primes", "fib"))
	s.over()
	s.controllerStops()
	s.teardown()
	if left := s.amazon.left(region); len(left) > 0 {
		t.Errorf("teardown has left %q", left)
	}
}
