package walkthrough

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cloudmaster/integration/program"
	"cloudmaster/integration/sample"
	"cloudmaster/integration/wire"
)

// setup runs "controller setup", which makes queues, bucket, roles and the rest for the
// configuration.
func (w *world) setup() {
	w.t.Helper()
	w.succeeds("controller", "setup", "-c", w.config)
}

// succeeds runs a program to its end and returns what it printed.
func (w *world) succeeds(name string, args ...string) []string {
	w.t.Helper()
	p := w.start(name, args...)
	if code := p.ExitCode(); code != 0 {
		w.t.Fatalf("%s %s ended with exit code %d: %q", name, strings.Join(args, " "), code, p.Output(0))
	}
	return p.Output(0)
}

// ends runs a program to its end and returns its exit code.
func (w *world) ends(name string, args ...string) int {
	w.t.Helper()
	return w.start(name, args...).ExitCode()
}

// controllerStarts starts the controller and waits until it knows the instances.
func (w *world) controllerStarts() {
	w.t.Helper()
	p := w.start("controller", "run", "-c", w.config)
	w.controller = p
	w.sees("a controller that is ready", func() (string, bool) {
		if p.Ended() {
			w.t.Fatalf("the controller ended with exit code %d", p.ExitCode())
		}
		_, err := program.Get(w.t.Context(), "http://"+w.ops+"/readyz")
		return fmt.Sprint(err), err == nil && p.Mark() > 0
	})
}

func (w *world) controllerStops() {
	if w.controller == nil || w.controller.Ended() {
		return
	}
	if err := w.controller.Stop(); err != nil {
		w.t.Error(err)
	}
	if code := w.controller.ExitCode(); code != 0 {
		w.t.Errorf("the controller ended with exit code %d", code)
	}
}

// controllerDies kills the controller, like a power failure.
func (w *world) controllerDies() {
	w.t.Helper()
	w.must(w.controller.Kill())
}

func (w *world) allocatorStarts() {
	w.t.Helper()
	w.run("allocator", "--listen", w.front, "--ops-listen", w.frontOps, "--backend", "aws://"+w.region,
		"--deployment", deployment, "--pool", "fib", "--refresh-interval", "500ms", "--request-interval", "5s")
	w.sees("an allocator that has read the active set", func() (string, bool) {
		_, err := program.Get(w.t.Context(), "http://"+w.frontOps+"/readyz")
		return fmt.Sprint(err), err == nil
	})
}

// feeds sends jobs with the real client.
func (w *world) feeds(jobs ...string) {
	w.t.Helper()
	args := []string{
		"--backend", "aws://" + w.region, "--queue", "primes-work-" + deployment, "--ceiling", "2000000000",
	}
	for _, j := range jobs {
		args = append(args, "--job", j)
	}
	if sent := w.succeeds("feed-primes", args...); len(sent) != len(jobs) || sent[0] != "sent "+jobs[0] {
		w.t.Fatalf("feed-primes printed %q", sent)
	}
}

// reports waits for a line of the controller's report, after the mark, that contains all the parts,
// and returns it.
func (w *world) reports(after int, parts ...string) string {
	w.t.Helper()
	var line string
	w.sees("the report "+strings.Join(parts, " … "), func() (string, bool) {
		var ok bool
		line, ok = program.Find(w.controller.Output(after), parts...)
		return line, ok
	})
	return line
}

// reportsNot fails the test if the report has such a line.
func (w *world) reportsNot(after int, parts ...string) {
	w.t.Helper()
	if line, ok := program.Find(w.controller.Output(after), parts...); ok {
		w.t.Fatalf("the controller reports %q", line)
	}
}

// worksOn waits until a worker reports that it works on the job, and returns the worker's id.
func (w *world) worksOn(after int, job string) (id string) {
	w.t.Helper()
	line := regexp.MustCompile(`primes (\S+) Processing: ` + job + ` `)
	w.sees("a worker at job "+job, func() (string, bool) {
		for _, text := range w.controller.Output(after) {
			if m := line.FindStringSubmatch(text); m != nil {
				id = m[1]
				return text, true
			}
		}
		return "", false
	})
	return id
}

// processed waits until every job has exactly one result.
func (w *world) processed(jobs ...string) {
	w.t.Helper()
	w.sees(fmt.Sprintf("one result of each of %d jobs", len(jobs)), func() (string, bool) {
		results := sample.Processed(w.controller.Output(0))
		for _, j := range jobs {
			id, _, _ := strings.Cut(j, "|")
			if len(results[id]) != 1 {
				return fmt.Sprint(results), false
			}
		}
		return "", true
	})
}

// metric reads one series of the controller's metrics; -1 if it is not there.
func (w *world) metric(series string) float64 {
	v, ok := program.Metric(w.t.Context(), "http://"+w.ops, series)
	if !ok {
		return -1
	}
	return v
}

// instances returns how many of a pool's instances are in the state.
func (w *world) instances(pool, state string) float64 {
	return w.metric(fmt.Sprintf(`cloudmaster_instances{pool="%s",state="%s"}`, pool, state))
}

// has checks that a pool has n instances in the state.
func (w *world) has(n int, pool, state string) func() (string, bool) {
	return func() (string, bool) {
		got := w.instances(pool, state)
		return fmt.Sprintf("%.0f %s", got, state), got == float64(n)
	}
}

// empty checks that the pools have no instances, and that EC2 has none either.
func (w *world) empty(pools ...string) func() (string, bool) {
	return func() (string, bool) {
		sum := 0.0
		for _, pool := range pools {
			for _, state := range []string{"startup", "active", "shut_down", "stopping"} {
				n := w.instances(pool, state)
				if n < 0 {
					return "no metrics", false
				}
				sum += n
			}
		}
		listed := len(w.listed())
		return fmt.Sprintf("%.0f instances, %d in EC2", sum, listed), sum == 0 && listed == 0
	}
}

// queued checks that a pool's work queue has these numbers of messages.
func (w *world) queued(pool string, visible, inFlight int) func() (string, bool) {
	return func() (string, bool) {
		v := w.metric(fmt.Sprintf(`cloudmaster_backlog_messages{kind="visible",pool="%s"}`, pool))
		f := w.metric(fmt.Sprintf(`cloudmaster_backlog_messages{kind="in_flight",pool="%s"}`, pool))
		return fmt.Sprintf("%.0f visible, %.0f in flight", v, f), v == float64(visible) && f == float64(inFlight)
	}
}

// launched returns how many calls of RunInstances the wire has seen.
func (w *world) launched() int {
	return w.wire.Counts()[wire.Call{Service: "ec2", Action: "RunInstances"}]
}

// set returns the load of each instance in the fib pool's active set, by instance id.
func (w *world) set() map[string]float64 {
	return sample.ActiveSet(w.t.Context(), "http://"+w.frontOps, "fib")
}

// serves checks that the active set has n instances.
func (w *world) serves(n int) func() (string, bool) {
	return func() (string, bool) {
		ids := slices.Sorted(maps.Keys(w.set()))
		return fmt.Sprint(ids), len(ids) == n
	}
}

const noServers = "no servers are running, try again in a minute"

// client starts a fib-client that prints numbers until it is stopped.
func (w *world) client(args ...string) *program.Process {
	w.t.Helper()
	args = append([]string{"--allocator", "http://" + w.front, "--pool", "fib", "--interval", "200ms"}, args...)
	return w.run("fib-client", args...)
}

// clients starts n clients, one after the other, and waits until each of them has a number.
func (w *world) clients(n int) []*program.Process {
	w.t.Helper()
	var list []*program.Process
	for range n {
		p := w.client()
		w.sees("a number", func() (string, bool) {
			if p.Ended() {
				w.t.Fatalf("fib-client ended: %q", p.Output(0))
			}
			return "", p.Mark() > 0
		})
		list = append(list, p)
	}
	return list
}

// refused runs a client, which must find no server.
func (w *world) refused() {
	w.t.Helper()
	p := w.client()
	if code := p.ExitCode(); code != 1 || strings.Join(p.Output(0), "\n") != noServers {
		w.t.Fatalf("fib-client printed %q, exit code %d", p.Output(0), code)
	}
}

// connected starts clients until one gets a server, as a person would, but less patiently.
func (w *world) connected() *program.Process {
	w.t.Helper()
	var p *program.Process
	w.sees("a server for a client", func() (string, bool) {
		if p == nil || p.Ended() {
			p = w.client()
		}
		return strings.Join(p.Output(0), " "), !p.Ended() && sample.Fibonacci(p.Output(0))
	})
	return p
}

// leave stops clients.
func (w *world) leave(clients ...*program.Process) {
	w.t.Helper()
	for _, p := range clients {
		w.must(p.Stop())
	}
}
