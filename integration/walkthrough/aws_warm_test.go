package walkthrough

import (
	"fmt"
	"strings"
	"testing"

	"cloudmaster/integration/wire"
)

// calls returns how many calls of an action of EC2 the wire has seen.
func (s *story) calls(action string) int {
	return s.wire.Counts()[wire.Call{Service: "ec2", Action: action}]
}

// becomes checks that there is one instance, and its state.
func (s *story) becomes(state string) func() (string, bool) {
	return func() (string, bool) {
		all := s.cloud.Instances()
		return fmt.Sprintf("%+v", all), len(all) == 1 && all[0].State == state
	}
}

// TestStoryWarm: an idle pool launches an instance and stops it. A job starts that one instead of launching another,
// and is done by it. Then it is stopped again.
func TestStoryWarm(t *testing.T) {
	// With a larger maximum another instance is launched to be kept warm while this one works.
	warm := strings.Replace(primesPool, "maximum_number_of_instances: 3",
		"maximum_number_of_instances: 1\n    warm: {stopped: 1}", 1)
	s := newStory(t, plot{pools: warm})
	s.controllerStarts()
	s.sees("one instance that is stopped", s.becomes("stopped"))
	s.sees("it counted as warm", s.has(1, "primes", "warm"))
	only := s.cloud.Instances()[0]
	s.over()
	for n := range 2 { // a second time, so that what is kept warm again can be started again
		mark := s.controller.Mark()
		job := fmt.Sprintf("%d|6573", n+1)
		s.feeds(job)
		s.processed(job)
		s.reports(mark, "primes Started instance "+only.ID+" that was warm")
		s.reports(mark, "primes "+only.ID+" Processed: "+job[:1]+" ")
		s.reports(mark, "primes Stopping instance "+only.ID+" to keep it warm", "idle surplus")
		s.sees("it stopped again", s.becomes("stopped"))
		s.sees("it counted as warm", s.has(1, "primes", "warm"))
		s.over()
	}
	if ran, began, stops := s.launched(), s.calls("StartInstances"), s.calls("StopInstances"); ran != 1 || began != 2 ||
		stops != 3 {
		t.Errorf("got %d calls of RunInstances, %d of StartInstances and %d of StopInstances; want 1, 2 and 3", ran,
			began, stops)
	}
	if got := s.metric(`cloudmaster_warm_starts_total{outcome="accepted",pool="primes"}`); got != 2 {
		t.Errorf("got %.0f warm starts counted, want 2", got)
	}
}
