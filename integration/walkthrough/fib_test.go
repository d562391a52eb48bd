package walkthrough

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/integration/program"
	"cloudmaster/integration/sample"
)

func TestFibStartUp(t *testing.T) {
	w := begin(t, plot{pools: fibPool})
	w.controllerStarts()
	w.allocatorStarts()
	w.refused()
	w.reports(0, "fib Started instance")
	w.sees("a server in the active set", w.serves(1))
	next := w.client("--interval", "20ms", "--count", "6")
	if code := next.ExitCode(); code != 0 || fmt.Sprint(next.Output(0)) != "[1 1 2 3 5 8]" {
		t.Fatalf("fib-client printed %q, exit code %d", next.Output(0), code)
	}
}

// twoServers starts two servers, with 12 clients on the first and 3 on the second.
func (w *world) twoServers() (first, second string, onFirst, onSecond []*program.Process) {
	w.t.Helper()
	w.controllerStarts()
	w.allocatorStarts()
	w.refused()
	w.sees("a server in the active set", w.serves(1))
	for id := range w.set() {
		first = id
	}
	w.metal.Delay(5 * time.Second) // otherwise the second server would take some of the 12 clients
	onFirst = w.clients(12)
	w.metal.Delay(0)
	w.sees("two servers in the active set", w.serves(2))
	for id := range w.set() {
		if id != first {
			second = id
		}
	}
	onSecond = w.clients(3)
	return first, second, onFirst, onSecond
}

func TestFibGrow(t *testing.T) {
	w := begin(t, plot{pools: fibPool})
	first, second, _, _ := w.twoServers()
	w.sees("the new clients on the new server", func() (string, bool) {
		set := w.set()
		return fmt.Sprint(set), near(set[first], 1.2) && near(set[second], 0.3)
	})
	w.still("two servers", 5*time.Second, w.serves(2))
}

func near(a, b float64) bool { return a > b-0.05 && a < b+0.05 }

func TestFibShrink(t *testing.T) {
	w := begin(t, plot{pools: fibPool, defaults: map[string]string{"shut_down_interval": "40s"}})
	first, second, onFirst, onSecond := w.twoServers()

	mark := w.controller.Mark()
	w.leave(onFirst[1:]...)
	w.leave(onSecond[1:]...)
	drained := sample.Instance(w.reports(mark, "fib Shutting down instance"))
	w.sees("it leaves the active set", func() (string, bool) {
		set := w.set()
		_, there := set[drained]
		return fmt.Sprint(set), !there && len(set) == 1
	})
	client := map[string]*program.Process{first: onFirst[0], second: onSecond[0]}[drained]
	numbers := client.Mark()
	w.sees("numbers for its client", func() (string, bool) {
		return "", client.Mark() > numbers+3 && sample.Fibonacci(client.Output(0))
	})

	crowd := w.clients(8)
	w.reports(mark, "fib Activating instance "+drained)
	w.reportsNot(mark, "fib Started instance")

	// Its client stays and all others leave. It is drained again, and terminated when its grace is over.
	mark = w.controller.Mark()
	w.leave(crowd...)
	again := sample.Instance(w.reports(mark, "fib Shutting down instance"))
	w.reports(mark, "fib Terminating instance "+again)
	for _, p := range append(onFirst[:1], onSecond[0]) {
		if !p.Ended() {
			w.leave(p)
		}
	}
	w.sees("no servers", w.empty("fib"))
}

// TestFibStopsAtLoadZero: a draining server is terminated when its last client has left, long
// before its grace is over.
func TestFibStopsAtLoadZero(t *testing.T) {
	w := begin(t, plot{pools: fibPool, defaults: map[string]string{"shut_down_interval": "1h"}})
	first, second, onFirst, onSecond := w.twoServers()
	mark := w.controller.Mark()
	w.leave(onFirst[1:]...)
	w.leave(onSecond[1:]...)
	drained := sample.Instance(w.reports(mark, "fib Shutting down instance"))
	w.still("the drained server kept for its client", 6*time.Second, func() (string, bool) {
		line, ended := program.Find(w.controller.Output(mark), "fib Terminating instance "+drained)
		return line, !ended
	})
	w.leave(map[string]*program.Process{first: onFirst[0], second: onSecond[0]}[drained])
	w.reports(mark, "fib Terminating instance "+drained)
}
