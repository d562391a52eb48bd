package app

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/sample/primesjob"
	"cloudmaster/services/primes-worker/internal/primes"
	"cloudmaster/services/primes-worker/internal/worker"
)

const usage = `primes-worker takes jobs "ID|N" from a work queue and reports the N-th prime.

A controller tells it, in its user data, which queues and who it is. To run it by
hand, say so with --backend, --work-queue, --status-queue and --instance-id.

Usage:
  primes-worker [flags]

Flags:
`

type settings struct {
	flags *pflag.FlagSet

	backend, workQueue, statusQueue, instanceID string

	maxN                        int
	stopTimeout, statusInterval time.Duration
	opsListen                   string
}

// parse reads the settings. All other sources take precedence over the user data.
func parse(args []string, stdout io.Writer, me agent.UserData) (settings, error) {
	fs := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	fs.SetOutput(stdout)
	fs.Usage = func() { fmt.Fprint(stdout, usage, fs.FlagUsages()) }
	s := settings{flags: fs}
	fs.StringVar(&s.backend, "backend", me.Backend, "`address` of the message broker, as nats://HOST:4222")
	fs.StringVar(&s.workQueue, "work-queue", me.Queues.Work, "`name` of the queue to take jobs from")
	fs.StringVar(&s.statusQueue, "status-queue", me.Queues.Status, "`name` of the queue to report to")
	fs.StringVar(&s.instanceID, "instance-id", string(me.InstanceID), "`name` to report under")
	fs.IntVar(&s.maxN, "max-n", primesjob.DefaultCeiling, "largest N that a job may ask for")
	fs.DurationVar(&s.stopTimeout, "stop-timeout", worker.DefaultStopTimeout,
		"let a job finish for this long after a stop signal, then hand it back")
	fs.DurationVar(&s.statusInterval, "status-interval", cmp.Or(me.StatusInterval, agent.DefaultInterval),
		"report to the controller at least this often")
	fs.StringVar(&s.opsListen, "ops-listen", "", "`address` for /healthz, /readyz and /metrics (default none)")
	if err := daemon.Parse(fs, args, me.Settings); err != nil {
		return settings{}, err
	}
	if problems := s.problems(); len(problems) > 0 {
		return settings{}, daemon.Usagef("%s", strings.Join(problems, "\n"))
	}
	return s, nil
}

// problems names all that is wrong with the settings, except what is missing.
func (s *settings) problems() []string {
	var out []string
	if s.flags.NArg() > 0 {
		out = append(out, fmt.Sprintf("takes no arguments, got %q", s.flags.Args()))
	}
	if s.maxN < 1 || s.maxN > primes.MaxN {
		out = append(out, fmt.Sprintf("--max-n must be from 1 to %d, got %d", primes.MaxN, s.maxN))
	}
	if s.stopTimeout < 0 {
		out = append(out, fmt.Sprintf("--stop-timeout must be at least 0, got %s", s.stopTimeout))
	}
	if s.statusInterval <= 0 {
		out = append(out, fmt.Sprintf("--status-interval must be more than 0, got %s", s.statusInterval))
	}
	return out
}

// missing names the settings that are missing. The user data has them if a controller started the program; a person
// who starts it must give them as flags.
func (s *settings) missing() []string {
	var out []string
	for _, need := range []struct{ flag, value string }{
		{"--backend", s.backend},
		{"--work-queue", s.workQueue},
		{"--status-queue", s.statusQueue},
		{"--instance-id", s.instanceID},
	} {
		if need.value == "" {
			out = append(out, need.flag)
		}
	}
	return out
}

// stopGrace is the stop timeout for package worker. 0 is given as -1, because there 0 means the default.
func (s *settings) stopGrace() time.Duration { return cmp.Or(s.stopTimeout, -1) }

func (s *settings) instance() pool.InstanceID { return pool.InstanceID(s.instanceID) }
