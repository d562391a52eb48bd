package worker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/primes-worker/internal/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDoesJobs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.send(t, "1|2", "2|5")
		b.run(t, time.Minute)
		b.wantSaid(t, "Processing: 1 2", "Processed: 1 2 primes (1002) in 2",
			"Processing: 2 5", "Processed: 2 5 primes (1005) in 5")
		b.wantQueue(t)
	})
}

func TestIsIdleOnlyWhenThereIsNoJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		stop := b.start(t)
		wait(time.Hour) // looks many times
		b.send(t, "1|1", "2|1", "abc", "3|1")
		wait(10 * time.Second)
		b.send(t, "4|1")
		wait(10 * time.Second)
		stop()
		want := []string{"idle 0", "busy 1", "idle 0", "busy 1", "idle 0"}
		if got := b.voice.changes(); !slices.Equal(got, want) {
			t.Errorf("statuses: got %q, want %q", got, want)
		}
	})
}

func TestRefusesWhatIsNoJob(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, reason string }{
		"abc":               {"abc", `it has no "|"`},
		"empty":             {"", `it has no "|"`},
		"no N":              {"1|", "not a decimal number"},
		"no ID":             {"|5", "not a decimal number"},
		"negative":          {"1|-5", "not a decimal number"},
		"zero":              {"1|0", "the least is 1"},
		"over the ceiling":  {"1|1001", "more than the ceiling of 1000"},
		"far over":          {"1|99999999999", "more than the ceiling of 1000"},
		"huge digits":       {"1|" + strings.Repeat("9", 500), "more than the ceiling of 1000"},
		"three parts":       {"1|2|3", "not a decimal number"},
		"space in front":    {" 1|5", "not a decimal number"},
		"invalid UTF-8":     {"1|\xff\xfe5", "not UTF-8"},
		"line feed in ID":   {"1\n2|5", "not a decimal number"},
		"control in ID":     {"\x1b[31m1|5", "not a decimal number"},
		"largest garbage":   {strings.Repeat("\xa7\x00|1", memqueue.MaxBody/4), "the most is 1024"},
		"cut inside a rune": {strings.Repeat("é", 300), `it has no "|"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.opts.Ceiling = 1000
				b.send(t, c.body, "7|1")
				b.run(t, time.Minute)
				b.wantQueue(t)
				letters := b.queue.Dead().Letters()
				if len(letters) != 1 || letters[0].Body != c.body || !strings.Contains(letters[0].Reason, c.reason) {
					t.Errorf("dead letters: got %.300q, want the message because %q", letters, c.reason)
				}
				said := b.voice.texts()
				if len(said) != 3 || said[2] != "Processed: 7 1 primes (1001) in 1" {
					t.Fatalf("said: got %q, want a refusal and the next job's two lines", said)
				}
				wantRefusal(t, said[0], c.reason)
			})
		})
	}
}

// wantRefusal checks that what is said of garbage is fit for any screen.
func wantRefusal(t *testing.T, text, reason string) {
	t.Helper()
	if !strings.HasPrefix(text, `Refused: "`) || !strings.Contains(text, reason) {
		t.Errorf("got %q, want a refusal with the reason %q", text, reason)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) ||
		len(text) > 2000 {
		t.Errorf("got %q, want short and printable text", text)
	}
}

func TestKeepsALongJobInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.send(t, "1|3600") // 120 times the visibility timeout
		stop := b.start(t)
		for range 3590 {
			wait(time.Second)
			b.wantVisible(t, 0)
		}
		wait(time.Minute)
		stop()
		b.wantSaid(t, "Processing: 1 3600", "Processed: 1 3600 primes (4600) in 3600")
		b.wantQueue(t)
	})
}

func TestDeletesOnlyWhenTheResultIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		comeBack := b.voice.goAway()
		b.send(t, "1|1")
		stop := b.start(t)
		wait(time.Hour)
		b.wantQueue(t, "1|1")
		b.wantVisible(t, 0)
		comeBack()
		wait(time.Second)
		b.wantQueue(t)
		stop()
		b.wantSaid(t, "Processing: 1 1", "Processed: 1 1 primes (1001) in 1")
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		registry := prometheus.NewPedanticRegistry()
		b.opts.Metrics = worker.NewMetrics(registry)
		b.send(t, "abc", "1|2", "2|3", "3|1000000")
		b.run(t, time.Minute)
		err := testutil.GatherAndCompare(registry, strings.NewReader(`
			# HELP cloudmaster_primes_jobs_total Deliveries from the work queue by the end they came to.
			# TYPE cloudmaster_primes_jobs_total counter
			cloudmaster_primes_jobs_total{outcome="forgotten"} 0
			cloudmaster_primes_jobs_total{outcome="handed_back"} 1
			cloudmaster_primes_jobs_total{outcome="processed"} 2
			cloudmaster_primes_jobs_total{outcome="refused"} 1
			cloudmaster_primes_jobs_total{outcome="repeated"} 0
			# HELP cloudmaster_primes_busy 1 while a job is worked on.
			# TYPE cloudmaster_primes_busy gauge
			cloudmaster_primes_busy 0
		`), "cloudmaster_primes_jobs_total", "cloudmaster_primes_busy")
		if err != nil {
			t.Error(err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for want, opts := range map[string]worker.Options{
		"largest job is -1":        {Ceiling: -1},
		"poll is -1s, less than 0": {Poll: -time.Second},
	} {
		b := newBench()
		if _, err := worker.New(b.queue, b.voice, b.sieve.nth, opts); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAJobThatCannotBeComputedIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.sieve.err = errors.New("too large for this machine")
		b.send(t, "1|5")
		b.run(t, time.Second)
		b.wantSaid(t, "Processing: 1 5", `Refused: "1|5": compute: too large for this machine`)
		b.wantQueue(t)
		if got := len(b.queue.Dead().Letters()); got != 1 {
			t.Errorf("dead letters: got %d, want 1", got)
		}
	})
}

func TestStop(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		job     string
		timeout time.Duration
		takes   time.Duration // from the stop to the end
		left    []string
		said    string // last
	}{
		"job ends in time": {"1|25", 20 * time.Second, 15 * time.Second, nil, "Processed: 1 25 primes (1025) in 25"},
		"job is too long": {
			"1|40", 20 * time.Second, 20 * time.Second, []string{"1|40", "2|1"}, "Handed back: 1 40",
		},
		"default":             {"1|40", 0, worker.DefaultStopTimeout, []string{"1|40", "2|1"}, "Handed back: 1 40"},
		"no time is given":    {"1|40", -1, 0, []string{"1|40", "2|1"}, "Handed back: 1 40"},
		"the next is not for": {"1|11", 20 * time.Second, time.Second, nil, "Processed: 1 11 primes (1011) in 11"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.opts.StopTimeout = c.timeout
				b.send(t, c.job, "2|1")
				stop := b.start(t)
				wait(10 * time.Second)
				begun := time.Now()
				stop()
				if got := time.Since(begun); got != c.takes {
					t.Errorf("stop took %s, want %s", got, c.takes)
				}
				left := c.left
				if left == nil {
					left = []string{"2|1"}
				}
				b.wantQueue(t, left...)
				b.wantVisible(t, len(left)) // at once, not after the visibility timeout
				if said := b.voice.texts(); said[len(said)-1] != c.said {
					t.Errorf("said: got %q, want %q at last", said, c.said)
				}
				if n := b.voice.unstored(); n > 0 {
					t.Errorf("the worker ended before %d texts were stored", n)
				}
			})
		})
	}
}

func TestStopWhileIdleIsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		stop := b.start(t)
		wait(5 * time.Second)
		begun := time.Now()
		stop()
		if got := time.Since(begun); got != 0 {
			t.Errorf("stop took %s, want no time", got)
		}
	})
}

// TestStopWhileTheResultCannotBeStored: a job whose result is not stored is handed back.
func TestStopWhileTheResultCannotBeStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		comeBack := b.voice.goAway()
		defer comeBack()
		b.send(t, "1|1")
		b.run(t, 10*time.Second)
		b.wantQueue(t, "1|1")
		b.wantVisible(t, 1)
	})
}

// late gives a message and ends the context in the same moment.
type late struct {
	*memqueue.Queue
	stop context.CancelFunc
}

func (l late) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	got, err := l.Queue.Receive(ctx, most, wait)
	l.stop()
	return got, err
}

func TestAJobThatComesWithTheStopIsHandedBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		ctx, cancel := context.WithCancel(t.Context())
		w, err := worker.New(late{b.queue, cancel}, b.voice, b.sieve.nth, worker.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b.send(t, "1|1")
		if err := w.Run(ctx); err != nil {
			t.Errorf("got %v, want nil", err)
		}
		b.wantSaid(t)
		b.wantVisible(t, 1)
	})
}
