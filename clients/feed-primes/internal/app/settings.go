package app

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"cloudmaster/internal/daemon"
	"cloudmaster/internal/hint"
	"cloudmaster/internal/sample/primesjob"
)

// Defaults.
const (
	defaultBackend = "nats://127.0.0.1:4222"
	defaultQueue   = "primes-work"
	defaultMax     = 10_000
	defaultTimeout = 30 * time.Second
)

const usage = `feed-primes puts jobs on the work queue of primes-worker.

Usage:
  feed-primes [flags] [N]             N jobs of random size (default 1)
  feed-primes [flags] --job ID|N ...  these jobs
  feed-primes [flags] -               the jobs ID|N on the lines of standard input

A job ID|N asks for the first N primes. Prints "sent ID|N" for each job that the
queue has stored.

Flags:
`

type settings struct {
	flags *pflag.FlagSet

	backend, queue string
	hints          string // queue for hints; empty: none
	timeout        time.Duration

	jobs    []primesjob.Job // given one by one
	random  int             // how many of random size
	lines   bool            // those on standard input, too
	first   int
	max     int
	ceiling int
	seed    uint64
	rate    float64
}

// parse reads the settings.
func parse(args []string, stdout io.Writer) (settings, error) {
	fs := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	fs.SetOutput(stdout)
	fs.Usage = func() { fmt.Fprint(stdout, usage, fs.FlagUsages()) }
	s := settings{flags: fs}
	fs.IntVarP(&s.max, "max", "m", defaultMax, "largest N of a job of random size")
	jobs := fs.StringArray("job", nil, "send this job, `ID|N`; may be given several times")
	fs.IntVar(&s.first, "first-id", 1, "`id` of the first job of random size; the next have the next ids")
	fs.Uint64Var(&s.seed, "seed", 0, "send the same random jobs for the same `number` (default 0: others each time)")
	fs.Float64Var(&s.rate, "rate", 0, "send so many `jobs` per second (default as fast as the queue takes them)")
	fs.IntVar(&s.ceiling, "ceiling", primesjob.DefaultCeiling,
		"refuse a job with an N above this; the workers' setting is max_n")
	fs.StringVar(&s.backend, "backend", defaultBackend, "`address` of the message broker")
	fs.StringVar(&s.queue, "queue", defaultQueue, "`name` of the work queue")
	fs.DurationVar(&s.timeout, "timeout", defaultTimeout, "wait for a broker that is not there for so long")
	fs.StringVar(&s.hints, "hint-queue", "", "`name` of the deployment's queue for hints, "+
		"for one where the work queue cannot tell of jobs by itself; \"\" for none "+
		"(default: cloudmaster-DEPLOYMENT-hints if --queue is POOL-work-DEPLOYMENT)")
	if err := daemon.Parse(fs, args, nil); err != nil {
		return settings{}, err
	}
	if !fs.Changed("hint-queue") {
		s.hints = hint.Queue(s.queue)
	}
	if problems := append(s.readJobs(*jobs), s.problems()...); len(problems) > 0 {
		return settings{}, daemon.Usagef("%s", strings.Join(problems, "\n"))
	}
	return s, nil
}

// readJobs reads from flags and arguments which jobs are to be sent, and returns what is wrong with them.
func (s *settings) readJobs(jobs []string) (problems []string) {
	for _, text := range jobs {
		job, err := primesjob.Parse([]byte(text), s.ceiling)
		if err != nil {
			problems = append(problems, fmt.Sprintf("--job %q: %v", text, err))
		}
		s.jobs = append(s.jobs, job)
	}
	switch args := s.flags.Args(); {
	case len(args) > 1:
		problems = append(problems, fmt.Sprintf("takes one argument, N or -, got %q", args))
	case len(args) == 1 && args[0] == "-":
		s.lines = true
	case len(args) == 1:
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 {
			problems = append(problems,
				fmt.Sprintf("the number of jobs must be a number from 1 on, or - for standard input, got %q", args[0]))
		}
		s.random = n
	case len(jobs) == 0:
		s.random = 1
	}
	return problems
}

// problems names what is wrong with the other settings.
func (s *settings) problems() []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if s.ceiling < 1 {
		bad("--ceiling must be at least 1, got %d", s.ceiling)
	}
	if s.max < 1 || s.max > max(s.ceiling, 1) {
		bad("--max must be from 1 to the ceiling of %d, got %d", s.ceiling, s.max)
	}
	if s.first < 0 || s.first > math.MaxInt-max(s.random, 0) {
		bad("--first-id must be at least 0 and leave room for the ids that follow, got %d", s.first)
	}
	if s.rate < 0 || math.IsNaN(s.rate) || math.IsInf(s.rate, 0) {
		bad("--rate must be 0 or more jobs per second, got %v", s.rate)
	}
	if s.timeout <= 0 {
		bad("--timeout must be more than 0, got %s", s.timeout)
	}
	if s.queue == "" {
		bad("--queue must not be empty")
	}
	return out
}
