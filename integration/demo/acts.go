package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cloudmaster/integration/program"
	"cloudmaster/integration/sample"
	"cloudmaster/internal/backoff"
)

// feed sends jobs to the work queue, with the real client.
func (d *director) feed(ctx context.Context, jobs ...string) error {
	args := []string{"--backend", d.backend(), "--queue", "primes-work-" + deployment, "--ceiling", "1000000000"}
	for _, j := range jobs {
		args = append(args, "--job", j)
	}
	p, err := d.run(ctx, "feed-primes", args...)
	if err != nil {
		return err
	}
	if code := p.ExitCode(); code != 0 {
		return fmt.Errorf("feed-primes ended with exit code %d", code)
	}
	d.fed += len(jobs)
	return d.expect(ctx, fmt.Sprintf("feed-primes sends %d", len(jobs)), func() (string, bool) {
		sent := p.Output(0)
		return strings.Join(sent, ", "), len(sent) == len(jobs) && sent[0] == "sent "+jobs[0]
	})
}

// jobs are those that the first act begins with: the one from the documentation, and seven that take about a second.
var jobs = []string{
	"1|6573", "2|400000000", "3|400000000", "4|400000000", "5|400000000", "6|400000000", "7|400000000", "8|400000000",
}

func (d *director) primesStartUp(ctx context.Context) error {
	d.narrate("8 jobs for an empty pool of primes workers")
	if err := d.feed(ctx, jobs...); err != nil {
		return err
	}
	if err := d.reported(ctx, "the pool grows from 0", 0, "primes Started instance"); err != nil {
		return err
	}
	if err := d.reported(ctx, "the result of job 1", 0, "primes ", "Processed: 1 6573 primes (65809) in "); err != nil {
		return err
	}
	if err := d.keepWaiting(ctx); err != nil {
		return err
	}
	return d.expect(ctx, fmt.Sprintf("%d jobs processed", d.fed), func() (string, bool) {
		n := len(sample.Processed(d.controller.Output(0)))
		return fmt.Sprintf("%d jobs processed", n), n == d.fed
	})
}

const (
	// While fewer jobs than this wait, the pool has no reason to grow.
	fewJobs = 12
	// mostJobs bounds what is fed until the pool grows. No worker that we know does them all in the time in which a
	// pool grows.
	mostJobs = 100
)

// keepWaiting sends more jobs until more than one instance is at work: on a fast machine one worker would be done with
// all of the first ones before the pool may grow.
func (d *director) keepWaiting(ctx context.Context) error {
	for d.most() < 2 && d.fed < mostJobs && backoff.Wait(ctx, 200*time.Millisecond) {
		waiting, known := d.metric(ctx, `cloudmaster_backlog_messages{kind="visible",pool="primes"}`)
		if !known || waiting >= fewJobs {
			continue
		}
		var more []string
		for i := range fewJobs {
			more = append(more, fmt.Sprintf("%d|400000000", 1000+d.fed+i))
		}
		if err := d.feed(ctx, more...); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// most is how many instances the pool of primes workers has had at the same time.
func (d *director) most() (most int) {
	for _, line := range d.controller.Output(0) {
		if m := instancesLine.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1]) // the expression matches digits only
			most = max(most, n)
		}
	}
	return most
}

var instancesLine = regexp.MustCompile(`primes Instances: (\d+) `)

func (d *director) primesGrowAndShrink(ctx context.Context) error {
	d.narrate("the pool has grown while jobs were waiting; now it is idle and shrinks")
	err := d.expect(ctx, "more than one instance at work", func() (string, bool) {
		most := d.most()
		return fmt.Sprintf("up to %d instances", most), most > 1
	})
	if err != nil {
		return err
	}
	return d.expect(ctx, "no instances, no messages", func() (string, bool) {
		visible, ok1 := d.metric(ctx, `cloudmaster_backlog_messages{kind="visible",pool="primes"}`)
		inFlight, ok2 := d.metric(ctx, `cloudmaster_backlog_messages{kind="in_flight",pool="primes"}`)
		n := d.running(ctx, "primes")
		return fmt.Sprintf("%.0f instances, %.0f visible, %.0f in flight", n, visible, inFlight),
			ok1 && ok2 && n+visible+inFlight == 0
	})
}

// running returns how many instances of a pool there are, in any state; -1 if that cannot be read.
func (d *director) running(ctx context.Context, pool string) float64 {
	sum := 0.0
	for _, state := range []string{"startup", "active", "shut_down", "stopping"} {
		n, ok := d.metric(ctx, fmt.Sprintf(`cloudmaster_instances{pool="%s",state="%s"}`, pool, state))
		if !ok {
			return -1
		}
		sum += n
	}
	return sum
}

// workingOn waits until a worker reports that it works on the job.
func (d *director) workingOn(ctx context.Context, after int, job string) (id string, err error) {
	line := regexp.MustCompile(`primes (\S+) Processing: ` + job + ` `)
	err = d.expect(ctx, "a worker takes job "+job, func() (string, bool) {
		for _, text := range d.controller.Output(after) {
			if m := line.FindStringSubmatch(text); m != nil {
				id = m[1]
				return id + " takes it", true
			}
		}
		return "", false
	})
	return id, err
}

func (d *director) workerKilled(ctx context.Context) error {
	d.narrate("job 20 takes a few seconds; its worker is killed with SIGKILL in the middle")
	mark := d.controller.Mark()
	if err := d.feed(ctx, "20|1000000000"); err != nil {
		return err
	}
	victim, err := d.workingOn(ctx, mark, "20")
	if err != nil {
		return err
	}
	pid, err := d.pid(victim)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", victim, err)
	}
	if _, done := sample.Processed(d.controller.Output(0))["20"]; done {
		return fmt.Errorf("job 20 was done before %s could be killed", victim)
	}
	if err := d.reported(ctx, "the dead instance is noticed", mark, "primes Instance "+victim+" is gone"); err != nil {
		return err
	}
	if err := d.expect(ctx, "another instance finishes job 20", func() (string, bool) {
		line, ok := program.Find(d.controller.Output(mark), "Processed: 20 1000000000 primes (22801763489)")
		return line, ok && !strings.Contains(line, victim)
	}); err != nil {
		return err
	}
	return d.expect(ctx, "nothing is left on the queue", func() (string, bool) {
		n, ok := d.metric(ctx, `cloudmaster_backlog_messages{kind="in_flight",pool="primes"}`)
		return fmt.Sprintf("%.0f in flight", n), ok && n == 0
	})
}

// outage is how long the controller is away.
const outage = 3 * time.Second

func (d *director) controllerKilled(ctx context.Context) error {
	d.narrate("a client is connected, a job is under way; the controller is killed with SIGKILL")
	client, err := d.connectedClient(ctx)
	if err != nil {
		return err
	}
	mark := d.controller.Mark()
	if err := d.feed(ctx, "30|200000000"); err != nil {
		return err
	}
	if _, err := d.workingOn(ctx, mark, "30"); err != nil {
		return err
	}
	before := d.activeSet(ctx)
	if err := d.killController(); err != nil {
		return err
	}
	numbers := client.Mark()
	if !backoff.Wait(ctx, outage) {
		return context.Cause(ctx)
	}
	d.narrate("the controller starts again")
	if err := d.startController(ctx); err != nil {
		return err
	}
	result := "Processed: 30 200000000 primes (4222234741)"
	if err := d.reported(ctx, "job 30 is done and reported", 0, result); err != nil {
		return err
	}
	if err := d.unnoticed(ctx, client, numbers, before); err != nil {
		return err
	}
	d.narrate("everybody leaves; both pools return to nothing")
	if err := client.Stop(); err != nil {
		return err
	}
	if err := d.expect(ctx, "both pools at 0", func() (string, bool) {
		p, f := d.running(ctx, "primes"), d.running(ctx, "fib")
		return fmt.Sprintf("primes %.0f, fib %.0f", p, f), p == 0 && f == 0
	}); err != nil {
		return err
	}
	if err := d.expect(ctx, "nothing was launched since the restart", func() (string, bool) {
		n := 0
		for _, line := range d.controller.Output(0) {
			if strings.Contains(line, "Started instance") {
				n++
			}
		}
		return fmt.Sprintf("%d launches", n), n == 0
	}); err != nil {
		return err
	}
	return d.doneOnce(ctx)
}

// unnoticed checks what the outage must not have changed: the active set, and that the client got
// its numbers all the time.
func (d *director) unnoticed(
	ctx context.Context, client *program.Process, numbers int, before map[string]float64,
) error {
	if err := d.expect(ctx, "the active set is as before", func() (string, bool) {
		now := d.activeSet(ctx)
		return fmt.Sprintf("%d before, %d now", len(before), len(now)),
			len(now) == len(before) && slices.Equal(ids(now), ids(before))
	}); err != nil {
		return err
	}
	return d.expect(ctx, "the client got its numbers all the time", func() (string, bool) {
		got := client.Output(0)
		return fmt.Sprintf("%d numbers, %d since the kill", len(got), len(got)-numbers),
			len(got)-numbers >= 10 && sample.Fibonacci(got)
	})
}
