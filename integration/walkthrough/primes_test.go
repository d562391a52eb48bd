package walkthrough

import "testing"

const (
	// long is a job that takes a worker at least a second.
	long = "400000000"
	// endless is the longest job that is allowed: it leaves time for something to happen to its worker.
	endless = "2000000000"
)

func TestPrimesStartUp(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	w.sees("no instances", w.empty("primes"))
	w.feeds("1|6573")
	w.reports(0, "primes Started instance")
	w.reports(0, "primes ", "Processing: 1 6573")
	w.reports(0, "primes ", "Processed: 1 6573 primes (65809) in ")
	w.sees("the message deleted", w.queued("primes", 0, 0))
}

func TestPrimesGrow(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	jobs := []string{"1|" + long, "2|" + long, "3|" + long, "4|" + long, "5|" + long, "6|" + long}
	w.feeds(jobs...)
	w.sees("3 workers for 6 jobs, which is the maximum", w.has(3, "primes", "active"))
	w.processed(jobs...)
	if n := len(w.metal.Running()); n > 3 {
		t.Errorf("got %d processes, want at most 3", n)
	}
}

func TestPrimesShrinkToZero(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	w.feeds("1|6573", "2|6573", "3|6573", "4|6573")
	w.processed("1|6573", "2|6573", "3|6573", "4|6573")
	w.reports(0, "primes Terminating instance")
	w.sees("no instances, also none in EC2", w.empty("primes"))
	w.sees("no messages", w.queued("primes", 0, 0))
	w.sees("no processes", func() (string, bool) { ids := w.metal.Running(); return join(ids), len(ids) == 0 })
}

func TestBadJobIsBuried(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	w.sends("primes-work-"+deployment, "7|many", "8|6573")
	w.reports(0, "primes ", "Processed: 8 6573 primes (65809)")
	w.reports(0, "primes ", `Refused`)
	w.sees("the message among the dead letters", func() (string, bool) {
		n := w.counts("primes-work-" + deployment + "-dead")
		return n, n == "1"
	})
}
