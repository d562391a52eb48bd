package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// up starts the sample at the addresses that the documentation names, and leaves it running until ctx ends.
func up(ctx context.Context, opts options, out io.Writer) (err error) {
	s, err := newStage(ctx, opts, out, true, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	// People are slower than a play, so a server that has just started waits longer for them.
	s.env = []string{"CLOUDMASTER_DEFAULTS_MINIMUM_ACTIVE_TIME=1m"}
	if err := s.startController(ctx); err != nil {
		return err
	}
	if err := s.startAllocator(ctx); err != nil {
		return err
	}
	fmt.Fprint(out, strings.NewReplacer("BIN", opts.bin, "ALLOCATOR", s.allocatorOps, "OPS", s.ops).Replace(usage))
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "stopping")
		return nil
	case <-s.controller.Done():
		return fmt.Errorf("the controller ended: see %s", s.stderr.Name())
	}
}

const usage = `
The sample is up; Ctrl-C stops it. In another terminal:

  BIN/feed-primes --queue primes-work-demo --job '1|6573'
        compute the first 6573 primes
  BIN/feed-primes --queue primes-work-demo -m 50000000 20
        20 jobs of random size
  BIN/fib-client
        Fibonacci numbers, one a second; the first call finds no server and asks for one,
        so call it again after a few seconds
  curl -s ALLOCATOR/v1/pools/fib
        the fibonacci servers: addresses and loads
  telnet 127.0.0.1 PORT
        with the port of such an address: any line you type is answered with a number
  curl -s OPS/metrics
        what the controller counts

`
