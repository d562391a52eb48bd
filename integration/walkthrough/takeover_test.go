package walkthrough

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"cloudmaster/integration/program"
	"cloudmaster/integration/sample"
	"cloudmaster/integration/wire"
)

var runInstances = wire.Match{Service: "ec2", Action: "RunInstances"}

// TestTakeOverDuringLaunch: the controller dies after EC2 has launched an instance and before the
// answer arrives.
func TestTakeOverDuringLaunch(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	lift := w.wire.Inject(runInstances, wire.LoseAnswer(), 0)
	w.feeds("1|6573")
	w.sees("the launched instance", func() (string, bool) { n := len(w.listed()); return fmt.Sprint(n), n == 1 })
	w.controllerDies()
	lift()
	w.controllerStarts()
	w.processed("1|6573")
	w.reportsNot(0, "primes Started instance")
}

// TestTakeOverAtWork: the controller dies while a worker is busy.
func TestTakeOverAtWork(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	w.feeds("1|" + endless)
	worker := w.worksOn(0, "1")
	w.controllerDies()
	w.controllerStarts()
	w.processed("1|" + endless)
	w.reports(0, "primes "+worker+" Processed: 1 ")
	w.reportsNot(0, "primes Started instance")
	w.sees("no instances", w.empty("primes"))
}

// TestTakeOverWhileDraining: the controller dies with clients on a draining server and on an active one.
func TestTakeOverWhileDraining(t *testing.T) {
	w := begin(t, plot{pools: fibPool})
	first, second, onFirst, onSecond := w.twoServers()
	mark := w.controller.Mark()
	w.leave(onFirst[1:]...)
	w.leave(onSecond[1:]...)
	drained := sample.Instance(w.reports(mark, "fib Shutting down instance"))
	w.sees("one server in the active set", w.serves(1))
	before := slices.Sorted(maps.Keys(w.set()))
	w.controllerDies()
	numbers := onFirst[0].Mark()
	w.still("the active set as it was", 3*time.Second, func() (string, bool) {
		now := slices.Sorted(maps.Keys(w.set()))
		return fmt.Sprint(now), slices.Equal(now, before)
	})
	w.controllerStarts()
	w.still("the active set as it was", 5*time.Second, func() (string, bool) {
		now := slices.Sorted(maps.Keys(w.set()))
		return fmt.Sprint(now), slices.Equal(now, before)
	})
	w.reportsNot(0, "fib Started instance")
	w.reportsNot(0, "fib Activating instance")
	if p := onFirst[0]; p.Mark() <= numbers || !sample.Fibonacci(p.Output(0)) {
		t.Errorf("the client got %d numbers before and %d now", numbers, p.Mark())
	}
	w.leave(map[string]*program.Process{first: onFirst[0], second: onSecond[0]}[drained])
	w.reports(0, "fib Terminating instance "+drained)
}

// TestLostAnswerOfLaunch: EC2 has launched an instance and the answer is lost, but the controller lives on.
func TestLostAnswerOfLaunch(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	w.wire.Inject(runInstances, wire.LoseAnswer(), 6)
	w.feeds("1|" + long)
	w.processed("1|" + long)
	if ever := w.everListed(); len(ever) != 1 || w.launched() < 2 {
		t.Errorf("got instances %v of %d calls, want 1 of 2 or more", ever, w.launched())
	}
}
