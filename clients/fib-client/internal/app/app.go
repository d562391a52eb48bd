// Package app is fib-client: it asks the allocator for a server, connects, and prints
// Fibonacci numbers, one per interval, one per line.
//
// If its server goes away it asks the allocator for another and goes on. Each connection has its own sequence, so it
// then says on standard error that the numbers start again. Standard output has numbers and nothing else, except for
// the one line that says that no server is running.
package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"cloudmaster/clients/fib-client/internal/allocate"
	"cloudmaster/internal/daemon"
)

// Name is the program's name.
const Name = "fib-client"

const (
	defaultAllocator = "http://127.0.0.1:20809"
	defaultPool      = "fib"
	dialTimeout      = 10 * time.Second
)

const usage = `fib-client asks the allocator for a fib server and prints Fibonacci numbers.

Usage:
  %s [flags]

Flags:
%s`

type settings struct {
	allocator, pool, server string
	tokenFile, ca           string
	count                   int
	interval                time.Duration
	wait, quiet             bool
}

// Run prints numbers until there were enough or ctx ends.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	set, err := parse(args, stdout)
	if err != nil {
		return err
	}
	r := &runner{
		settings: set, stdout: stdout, notes: stderr,
		dial: func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
		},
	}
	if set.quiet {
		r.notes = io.Discard
	}
	if set.server == "" {
		allocator, err := allocate.New(set.allocator, allocate.Options{TokenFile: set.tokenFile, CA: set.ca})
		if err != nil {
			return daemon.Usagef("%s", err)
		}
		if allocator.TokenInClear() {
			fmt.Fprintf(r.notes, "%s: the token crosses the network in clear, because the allocator's address does "+
				"not begin with https://\n", Name)
		}
		r.allocator = allocator
	}
	return r.run(ctx)
}

func parse(args []string, stdout io.Writer) (settings, error) {
	var s settings
	fs := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	fs.SetOutput(stdout)
	fs.Usage = func() {
		fmt.Fprintf(stdout, usage, Name, fs.FlagUsages())
	}
	fs.StringVar(&s.allocator, "allocator", defaultAllocator, "`URL` of the allocator")
	fs.StringVar(&s.tokenFile, "allocator-token-file", "",
		"`FILE` whose first line is the token that the allocator wants")
	fs.StringVar(&s.ca, "allocator-ca", "",
		"`FILE` with the authority that has signed the allocator's certificate (default the system's)")
	fs.StringVar(&s.pool, "pool", defaultPool, "pool to ask for")
	fs.StringVar(&s.server, "server", "", "use the server at this `host:port` and ask no allocator")
	fs.IntVar(&s.count, "count", 0, "stop after this many numbers (default never)")
	fs.DurationVar(&s.interval, "interval", time.Second, "time between numbers; 0s: as fast as the server answers")
	fs.BoolVar(&s.wait, "wait", false, "if there is no server, wait for one instead of giving up")
	fs.BoolVar(&s.quiet, "quiet", false, "do not say on standard error what happens to the connection")
	if err := daemon.Parse(fs, args, nil); err != nil {
		return settings{}, err
	}
	if problems := s.problems(fs.Args()); len(problems) > 0 {
		return settings{}, daemon.Usagef("%s", strings.Join(problems, "\n"))
	}
	return s, nil
}

// problems names all that is wrong with the settings.
func (s *settings) problems(args []string) []string {
	var out []string
	if len(args) > 0 {
		out = append(out, fmt.Sprintf("takes no arguments, got %q", args))
	}
	if s.pool == "" || strings.Contains(s.pool, "/") {
		out = append(out, fmt.Sprintf("--pool must be a pool's name, got %q", s.pool))
	}
	if s.count < 0 {
		out = append(out, fmt.Sprintf("--count must not be negative, got %d", s.count))
	}
	if s.interval < 0 {
		out = append(out, fmt.Sprintf("--interval must not be negative, got %s", s.interval))
	}
	if host, port, err := net.SplitHostPort(s.server); s.server != "" && (err != nil || host == "" || port == "") {
		out = append(out, fmt.Sprintf("--server must be host:port, got %q", s.server))
	}
	return out
}
