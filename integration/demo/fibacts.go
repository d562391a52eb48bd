package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cloudmaster/integration/program"
	"cloudmaster/integration/sample"
	"cloudmaster/internal/backoff"
)

const noServers = "no servers are running, try again in a minute"

// client starts a fib-client that prints numbers until it is stopped.
func (d *director) client(ctx context.Context) (*program.Process, error) {
	return d.run(ctx, "fib-client", "--allocator", "http://"+d.allocator, "--pool", "fib", "--interval", "200ms")
}

// clients starts n clients, one after the other, and waits until each of them has a number.
func (d *director) clients(ctx context.Context, n int) ([]*program.Process, error) {
	var list []*program.Process
	for range n {
		p, err := d.client(ctx)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
		seen := program.Until(ctx, patience, func() (string, bool) {
			return "", p.Ended() || len(p.Output(0)) > 0
		})
		if seen.Err != nil || p.Ended() {
			return nil, fmt.Errorf("a fib-client got no number: %q", p.Output(0))
		}
	}
	return list, nil
}

// connectedClient returns a client that has a server. It asks again until there is one.
func (d *director) connectedClient(ctx context.Context) (*program.Process, error) {
	var client *program.Process
	err := d.expect(ctx, "a client finds a server", func() (string, bool) {
		p, err := d.client(ctx)
		if err != nil {
			return err.Error(), false
		}
		seen := program.Until(ctx, patience, func() (string, bool) { return "", p.Ended() || len(p.Output(0)) > 0 })
		client = p
		if seen.Err == nil && sample.Fibonacci(p.Output(0)) {
			return "its first number is " + p.Output(0)[0], true
		}
		backoff.Wait(ctx, time.Second) // as a person would, but less patiently
		return strings.Join(p.Output(0), " "), false
	})
	return client, err
}

func (d *director) fibStartUp(ctx context.Context) error {
	d.narrate("a client asks for a fibonacci server; there is none")
	mark := d.controller.Mark()
	first, err := d.client(ctx)
	if err != nil {
		return err
	}
	code := first.ExitCode()
	if err := d.expect(ctx, noServers+" (exit 1)", func() (string, bool) {
		said := strings.Join(first.Output(0), "\n")
		return fmt.Sprintf("%s (exit %d)", said, code), said == noServers && code == 1
	}); err != nil {
		return err
	}
	if err := d.reported(ctx, "the queued request starts a server", mark, "fib Started instance"); err != nil {
		return err
	}
	if err := d.setOf(ctx, 1); err != nil {
		return err
	}
	d.narrate("the next client finds it")
	next, err := d.run(ctx, "fib-client", "--allocator", "http://"+d.allocator, "--pool", "fib",
		"--interval", "20ms", "--count", "6")
	if err != nil {
		return err
	}
	next.ExitCode()
	return d.expect(ctx, "1 1 2 3 5 8", func() (string, bool) {
		got := strings.Join(next.Output(0), " ")
		return got, got == "1 1 2 3 5 8"
	})
}

// setOf waits until the active set has n instances.
func (d *director) setOf(ctx context.Context, n int) error {
	return d.expect(ctx, fmt.Sprintf("%d in the active set", n), func() (string, bool) {
		now := d.activeSet(ctx)
		return fmt.Sprintf("%v", ids(now)), len(now) == n
	})
}

func ids(set map[string]float64) []string { return slices.Sorted(maps.Keys(set)) }

// cast are the servers and clients of the fibonacci acts.
type cast struct {
	onFirst, onSecond []*program.Process
	first, second     string
}

func (d *director) fibGrow(ctx context.Context) error {
	d.narrate("12 clients come: more than one server should carry")
	mark := d.controller.Mark()
	for id := range d.activeSet(ctx) {
		d.cast.first = id
	}
	var err error
	if d.cast.onFirst, err = d.clients(ctx, 12); err != nil {
		return err
	}
	if err := d.expect(ctx, "the only server is above its target, 0.75", func() (string, bool) {
		load := d.activeSet(ctx)[d.cast.first]
		return fmt.Sprintf("load %.1f", load), load > 0.75
	}); err != nil {
		return err
	}
	if err := d.reported(ctx, "a second server starts", mark, "fib Started instance"); err != nil {
		return err
	}
	if err := d.setOf(ctx, 2); err != nil {
		return err
	}
	for id := range d.activeSet(ctx) {
		if id != d.cast.first {
			d.cast.second = id
		}
	}
	d.narrate("3 more clients come")
	if d.cast.onSecond, err = d.clients(ctx, 3); err != nil {
		return err
	}
	return d.expect(ctx, "new clients go to the new server", func() (string, bool) {
		set := d.activeSet(ctx)
		return fmt.Sprintf("loads %.1f and %.1f", set[d.cast.first], set[d.cast.second]), near(set[d.cast.second], 0.3)
	})
}

func near(a, b float64) bool { return a > b-0.05 && a < b+0.05 }

// leave stops clients.
func leave(clients []*program.Process) error {
	for _, p := range clients {
		if err := p.Stop(); err != nil {
			return err
		}
	}
	return nil
}

func (d *director) fibShrink(ctx context.Context) error {
	d.narrate("all but one client of each server leave")
	mark := d.controller.Mark()
	if err := leave(append(slices.Clone(d.cast.onFirst[1:]), d.cast.onSecond[1:]...)); err != nil {
		return err
	}
	if err := d.reported(ctx, "a server is shut down", mark, "fib Shutting down instance "); err != nil {
		return err
	}
	line, _ := program.Find(d.controller.Output(mark), "fib Shutting down instance ")
	drained := sample.Instance(line)
	if err := d.expect(ctx, "it leaves the active set", func() (string, bool) {
		set := d.activeSet(ctx)
		_, there := set[drained]
		return fmt.Sprintf("%v", ids(set)), !there && len(set) == 1
	}); err != nil {
		return err
	}
	if err := d.stillServed(ctx, drained); err != nil {
		return err
	}
	d.narrate("load rises again: the draining server is needed")
	crowd, err := d.clients(ctx, 8)
	if err != nil {
		return err
	}
	if err := d.reported(ctx, "that server is activated", mark, "fib Activating instance "+drained); err != nil {
		return err
	}
	if err := d.expect(ctx, "none is launched instead", func() (string, bool) {
		line, launched := program.Find(d.controller.Output(mark), "fib Started instance")
		return line, !launched
	}); err != nil {
		return err
	}
	return d.fibEnd(ctx, crowd, mark)
}

// stillServed waits until the client of a draining server has got more numbers.
func (d *director) stillServed(ctx context.Context, drained string) error {
	client := d.cast.onFirst[0]
	if drained == d.cast.second {
		client = d.cast.onSecond[0]
	}
	mark := client.Mark()
	return d.expect(ctx, "it serves the client it has", func() (string, bool) {
		n := len(client.Output(mark))
		return fmt.Sprintf("%d more numbers", n), n >= 3 && sample.Fibonacci(client.Output(0))
	})
}

func (d *director) fibEnd(ctx context.Context, crowd []*program.Process, mark int) error {
	d.narrate("everybody leaves")
	if err := leave(append(crowd, d.cast.onFirst[0], d.cast.onSecond[0])); err != nil {
		return err
	}
	for _, id := range []string{d.cast.first, d.cast.second} {
		if err := d.reported(ctx, "empty server is terminated", mark, "fib Terminating instance "+id); err != nil {
			return err
		}
	}
	return d.expect(ctx, "no servers", func() (string, bool) {
		n := d.running(ctx, "fib")
		return fmt.Sprintf("%.0f servers", n), n == 0
	})
}
