package feed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/clients/feed-primes/internal/feed"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/internal/sample/primesjob"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newQueue() *memqueue.Queue { return memqueue.New("primes-work", queue.Limits{}) }

func TestRunSendsAllSources(t *testing.T) {
	t.Parallel()
	q := newQueue()
	var told []string
	sent, err := feed.Run(t.Context(), q, feed.Options{Sent: func(jobs []primesjob.Job) {
		for _, j := range jobs {
			told = append(told, string(j.Encode()))
		}
	}}, feed.NewList([]primesjob.Job{{ID: "7", N: 70}, {ID: "8", N: 80}}), feed.NewRandom(2500, 10, 5, 1),
		feed.NewLines("x", strings.NewReader("1|2\n3|4"), 100, nil))
	if sent != 2504 || err != nil {
		t.Fatalf("got %d, %v, want 2504", sent, err)
	}
	got := q.Bodies()
	if !slices.Equal(got, told) {
		t.Errorf("queue holds %d jobs other than the %d told", len(got), len(told))
	}
	for i, prefix := range map[int]string{0: "7|70", 1: "8|80", 2: "10|", 2501: "2509|", 2502: "1|2", 2503: "3|4"} {
		if !strings.HasPrefix(got[i], prefix) {
			t.Errorf("job %d: got %q, want %q", i, got[i], prefix)
		}
	}
}

func TestRunTellsWhatIsCertain(t *testing.T) {
	t.Parallel()
	away := errors.New("the broker is away")
	q := newQueue()
	q.FailAfter(memqueue.OpSend, 2, away)
	told := 0
	sent, err := feed.Run(t.Context(), q, feed.Options{
		Sent: func(jobs []primesjob.Job) { told += len(jobs) },
	}, feed.NewRandom(2500, 1, 10, 1))
	doubt, ok := errors.AsType[*feed.Doubt](err)
	if !ok || !errors.Is(err, away) || doubt.Jobs != 500 {
		t.Errorf("got %v, want a doubt about 500 jobs because %v", err, away)
	}
	if sent != 2000 || told != 2000 || len(q.Bodies()) != 2000 {
		t.Errorf("got %d sent, %d told, %d in the queue, want 2000", sent, told, len(q.Bodies()))
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate  float64
		count int
		want  time.Duration
	}{
		{0, 5000, 0},
		{0.5, 10, 18 * time.Second}, // the first at once
		{1, 10, 9 * time.Second},
		{100, 1000, 10 * time.Second},
		{100_000, 500_000, 5 * time.Second},
	} {
		t.Run(fmt.Sprint(c.rate), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				sent, err := feed.Run(t.Context(), discard{}, feed.Options{Rate: c.rate},
					feed.NewRandom(c.count, 1, 10, 1))
				if sent != c.count || err != nil {
					t.Errorf("got %d, %v, want %d", sent, err, c.count)
				}
				if got := time.Since(start); got < c.want-c.want/20 || got > c.want+c.want/20 {
					t.Errorf("%d jobs at %v a second took %s, want %s", c.count, c.rate, got, c.want)
				}
			})
		})
	}
}

type discard struct{}

func (discard) Send(context.Context, ...[]byte) error { return nil }

func TestRateStopsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10500*time.Millisecond)
		defer cancel()
		sent, err := feed.Run(ctx, newQueue(), feed.Options{Rate: 1}, feed.NewRandom(100, 1, 10, 1))
		if sent != 11 || err == nil {
			t.Errorf("got %d, %v, want 11 and an error", sent, err)
		}
	})
}

func TestRandom(t *testing.T) {
	t.Parallel()
	take := func(most, chunk int, seed uint64) []primesjob.Job {
		var out []primesjob.Job
		r := feed.NewRandom(1000, 5, most, seed)
		for {
			jobs, err := r.Next(t.Context(), chunk)
			if err != nil || len(jobs) > chunk {
				t.Fatalf("got %d jobs, %v, want at most %d", len(jobs), err, chunk)
			}
			if len(jobs) == 0 {
				return out
			}
			out = append(out, jobs...)
		}
	}
	a := take(50, 1000, 1)
	if !slices.Equal(a, take(50, 7, 1)) {
		t.Error("the same seed gave other jobs")
	}
	if slices.Equal(a, take(50, 1000, 2)) {
		t.Error("another seed gave the same jobs")
	}
	seen := map[int]bool{}
	for i, j := range a {
		seen[j.N] = true
		if j.ID != fmt.Sprint(5+i) || j.N < 1 || j.N > 50 {
			t.Errorf("job %d: got %+v, want id %d and N from 1 to 50", i, j, 5+i)
		}
	}
	if len(seen) != 50 {
		t.Errorf("got %d different sizes in 1000 jobs, want all 50", len(seen))
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("1", 5000)
	for name, c := range map[string]struct {
		in      string
		want    []string
		refused []string
	}{
		"nothing":        {"", nil, nil},
		"jobs":           {"1|2\n2|3\n", []string{"1|2", "2|3"}, nil},
		"no end of line": {"1|2\n2|3", []string{"1|2", "2|3"}, nil},
		"other line end": {"1|2\r\n2|3\r\n", []string{"1|2", "2|3"}, nil},
		"blank lines":    {"\n1|2\n\n  \n2|3\n\n", []string{"1|2", "2|3"}, nil},
		"bad ones": {"abc\n1|2\n1|0\n1|101\n2|3\n\xff", []string{"1|2", "2|3"}, []string{
			`f:1: job is not of the form ID|N: it has no "|"`, "f:3: job's N is 0: the least is 1",
			`f:4: job's N is "101", more than the ceiling of 100`, "f:6: job is not UTF-8 text",
		}},
		"long line": {
			"1|2\n" + long + "|5\n2|3\n", []string{"1|2", "2|3"}, []string{"f:2: line is longer than 4096 bytes"},
		},
		"long line at last": {"1|2\n" + long, []string{"1|2"}, []string{"f:2: line is longer than 4096 bytes"}},
		"only bad ones": {
			"a\nb\n", nil,
			[]string{
				`f:1: job is not of the form ID|N: it has no "|"`, `f:2: job is not of the form ID|N: it has no "|"`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, in := range []io.Reader{
				strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in)),
				iotest.DataErrReader(strings.NewReader(c.in)),
			} {
				got, refused, err := readAll(t, in, 3)
				if err != nil || !slices.Equal(got, c.want) || !slices.Equal(refused, c.refused) {
					t.Errorf("got %q, refused %q, %v, want %q, refused %q", got, refused, err, c.want, c.refused)
				}
			}
		})
	}
}

func readAll(t *testing.T, in io.Reader, most int) (got, refused []string, err error) {
	t.Helper()
	l := feed.NewLines("f", in, 100, func(err error) { refused = append(refused, err.Error()) })
	for {
		jobs, err := l.Next(t.Context(), most)
		if len(jobs) > most {
			t.Errorf("got %d jobs at once, want at most %d", len(jobs), most)
		}
		if err != nil || len(jobs) == 0 {
			return got, refused, err
		}
		for _, j := range jobs {
			got = append(got, string(j.Encode()))
		}
	}
}

func TestLinesReadError(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	got, _, err := readAll(t, io.MultiReader(strings.NewReader("1|2\n3|4\n"), iotest.ErrReader(broken)), 10)
	if !errors.Is(err, broken) || !slices.Equal(got, []string{"1|2", "3|4"}) {
		t.Errorf("got %q, %v, want both jobs and %v", got, err, broken)
	}
}

// TestLinesAreGivenAsTheyCome: a job that is typed is sent at once, not only when a batch is full.
func TestLinesAreGivenAsTheyCome(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	l := feed.NewLines("f", r, 100, nil)
	for _, text := range []string{"1|2", "2|3"} {
		go func() { _, _ = io.WriteString(w, text+"\n") }()
		got, err := l.Next(t.Context(), 10)
		if err != nil || len(got) != 1 || string(got[0].Encode()) != text {
			t.Errorf("got %v, %v, want %s", got, err, text)
		}
	}
}

func TestLinesStopWithContext(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	defer func() { _ = w.Close() }() // ends the goroutine that reads
	stop := errors.New("that will do")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if got, err := feed.NewLines("f", r, 100, nil).Next(ctx, 10); !errors.Is(err, stop) {
		t.Errorf("got %v, %v, want %v", got, err, stop)
	}
}

func FuzzLines(f *testing.F) {
	f.Add("1|2\n2|3\n")
	f.Add("\n\r\n1|\xff\n" + strings.Repeat("9", 5000) + "\n1|1")
	f.Fuzz(func(t *testing.T, text string) {
		got, refused, err := readAll(t, strings.NewReader(text), 4)
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for line := range strings.Lines(text) {
			if strings.TrimSpace(line) != "" {
				lines++
			}
		}
		if len(got)+len(refused) != lines {
			t.Errorf("got %d jobs and %d refusals of %d lines", len(got), len(refused), lines)
		}
		for _, body := range got {
			if _, err := primesjob.Parse([]byte(body), 100); err != nil {
				t.Errorf("%q: %v", body, err)
			}
		}
	})
}
