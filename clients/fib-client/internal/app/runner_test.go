package app

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/clients/fib-client/internal/allocate"
	"cloudmaster/clients/fib-client/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errNoServers = &allocate.NoServersError{
	Detail: "no servers are running, try again in a minute", RetryAfter: time.Minute,
}

// world is an allocator and the servers it knows. Each step of the script is the answer to one
// question: an address or an error; the last is repeated.
type world struct {
	mu      sync.Mutex
	script  []any          // guarded by mu
	asked   int            // guarded by mu
	servers map[string]int // how many numbers a server gives before it dies; -1 for ever
	quits   int            // guarded by mu
	wg      sync.WaitGroup
}

// Ask plays the next step.
func (w *world) Ask(context.Context, string) (allocate.Server, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	step := w.script[min(w.asked, len(w.script)-1)]
	w.asked++
	if err, ok := step.(error); ok {
		return allocate.Server{}, err
	}
	return allocate.Server{Address: step.(string)}, nil
}

func (w *world) dial(_ context.Context, address string) (net.Conn, error) {
	n, ok := w.servers[address]
	if !ok {
		return nil, syscall.ECONNREFUSED
	}
	here, there := net.Pipe()
	w.wg.Go(func() { w.serve(there, n) })
	return here, nil
}

func (w *world) serve(conn net.Conn, most int) {
	defer func() { _ = conn.Close() }()
	r, a, b := bufio.NewReader(conn), 0, 1
	for i := 0; ; i++ {
		line, err := r.ReadString('\n')
		if err != nil || i == most { // as a kernel does, take the line that the dead server never reads
			return
		}
		if line == "quit\n" {
			w.mu.Lock()
			w.quits++
			w.mu.Unlock()
			return
		}
		a, b = b, a+b
		fmt.Fprintln(conn, a)
	}
}

// play runs a client in this world for the given time at most.
func (w *world) play(
	t *testing.T, set settings, limit time.Duration,
) (stdout, notes string, took time.Duration, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	defer w.wg.Wait()
	var out, said bytes.Buffer
	set.pool = "fib"
	r := &runner{settings: set, allocator: w, dial: w.dial, stdout: &out, notes: &said}
	if set.server != "" {
		r.allocator = nil
	}
	start := time.Now()
	err = r.run(ctx)
	return out.String(), said.String(), time.Since(start), err
}

func TestPrintsANumberPerInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{script: []any{"a:1"}, servers: map[string]int{"a:1": -1}}
		out, notes, took, err := w.play(t, settings{count: 7, interval: time.Second}, time.Hour)
		if err != nil || out != "1\n1\n2\n3\n5\n8\n13\n" || notes != "" || took != 6*time.Second {
			t.Errorf("got %q, notes %q after %s, %v", out, notes, took, err)
		}
		if w.quits != 1 {
			t.Errorf("got %d quits, want 1", w.quits)
		}
	})
}

func TestAStopIsNoErrorAndSaysQuit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{script: []any{"a:1"}, servers: map[string]int{"a:1": -1}}
		out, _, _, err := w.play(t, settings{interval: time.Second}, 2500*time.Millisecond)
		if err != nil || out != "1\n1\n2\n" || w.quits != 1 {
			t.Errorf("got %q, %v, %d quits; want 1 1 2, nil, 1 quit", out, err, w.quits)
		}
	})
}

func TestNoServersIsTheOnlyOutput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{script: []any{errNoServers}}
		out, notes, took, err := w.play(t, settings{interval: time.Second}, time.Hour)
		if out != "no servers are running, try again in a minute\n" || notes != "" || took != 0 {
			t.Errorf("got %q, notes %q after %s", out, notes, took)
		}
		if want := "pool fib has no server yet: try again later or use --wait"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

func TestWaitHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{script: []any{errNoServers, errNoServers, "a:1"}, servers: map[string]int{"a:1": -1}}
		out, _, took, err := w.play(t, settings{count: 2, wait: true}, time.Hour)
		if err != nil || out != "1\n1\n" || w.asked != 3 {
			t.Errorf("got %q, %v after %d questions, want 1 1 after 3", out, err, w.asked)
		}
		if took < 2*time.Minute || took > 2*time.Minute*11/10 {
			t.Errorf("got it after %s, want two minutes and at most a tenth", took)
		}
	})
}

// TestTooManyQuestions: it waits as long as the allocator says, also without --wait, and goes on.
func TestTooManyQuestions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		many := &allocate.TooManyError{Detail: "too many", RetryAfter: 20 * time.Second}
		w := &world{script: []any{many, many, "a:1"}, servers: map[string]int{"a:1": -1}}
		out, notes, took, err := w.play(t, settings{count: 1}, time.Hour)
		if err != nil || out != "1\n" || !strings.Contains(notes, "too many; trying again in 2") {
			t.Errorf("got %q, notes %q, %v; want a number", out, notes, err)
		}
		if took < 40*time.Second || took > 44*time.Second {
			t.Errorf("took %s, want twice 20 s and a tenth at most", took)
		}
	})
}

func TestAServerThatGoesAwayIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			script:  []any{"a:1", "a:1", errors.New("allocator restarts"), errNoServers, "b:1"},
			servers: map[string]int{"a:1": 4, "b:1": -1},
		}
		out, notes, took, err := w.play(t, settings{count: 10, interval: time.Second}, time.Hour)
		if err != nil || out != "1\n1\n2\n3\n1\n1\n2\n3\n1\n1\n" {
			t.Errorf("got %q, %v", out, err)
		}
		for _, want := range []string{
			"server a:1: it closed the connection; trying again in",
			"allocator restarts; trying again in",
			"no servers are running, try again in a minute; trying again in 1m",
			"moved to server b:1; numbers start again at 1",
		} {
			if !strings.Contains(notes, want) {
				t.Errorf("got notes\n%swant %q", notes, want)
			}
		}
		if took > 90*time.Second {
			t.Errorf("took %s, want about one minute and ten numbers", took)
		}
	})
}

func TestAServerThatIsGoneIsNotTheEndAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{script: []any{"gone:1", "full:1", "a:1"}, servers: map[string]int{"a:1": -1, "full:1": 0}}
		out, notes, _, err := w.play(t, settings{count: 1}, time.Hour)
		if err != nil || out != "1\n" || w.asked != 3 || strings.Contains(notes, "start again") {
			t.Errorf("got %q, %v after %d questions; want 1 after 3; notes\n%s", out, err, w.asked, notes)
		}
	})
}

func TestTheSearchIsBoundedAndBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{script: []any{"a:1", "gone:1"}, servers: map[string]int{"a:1": 3}}
		out, _, took, err := w.play(t, settings{interval: time.Second}, time.Hour)
		if out != "1\n1\n2\n" || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %q, %v, want 1 1 2 and the last error", out, err)
		}
		if took < giveUpAfter-maxBackoff || took > giveUpAfter+maxBackoff {
			t.Errorf("gave up after %s, want about %s", took, giveUpAfter)
		}
		if w.asked < 30 || w.asked > 80 {
			t.Errorf("asked %d times, want every 5 to 10 s", w.asked)
		}
	})
}

// Each number starts giveUpAfter anew, so servers may die any number of times.
func TestPatienceIsForOneLossNotForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{script: []any{"a:1"}, servers: map[string]int{"a:1": 1}}
		out, _, took, err := w.play(t, settings{count: 100, interval: 10 * time.Second}, time.Hour)
		if err != nil || out != strings.Repeat("1\n", 100) {
			t.Errorf("got %d lines, %v; want 100", strings.Count(out, "\n"), err)
		}
		if most := 100*10*time.Second + 100*minBackoff; took > most {
			t.Errorf("took %s, want at most %s", took, most)
		}
	})
}

func TestErrorsThatEndTheProgram(t *testing.T) {
	t.Parallel()
	failed := errors.New("ask allocator http://a: connection refused")
	for name, c := range map[string]struct {
		script []any
		set    settings
		want   error
	}{
		"allocator unreachable at the start": {[]any{failed}, settings{}, failed},
		"given server unreachable":           {nil, settings{server: "gone:1"}, syscall.ECONNREFUSED},
		"not a fib server":                   {nil, settings{server: "ssh:22", wait: true}, session.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{script: c.script}
				r := &runner{settings: c.set, allocator: w, dial: w.dial, stdout: io.Discard, notes: io.Discard}
				if c.set.server != "" {
					r.allocator = nil
				}
				if errors.Is(c.want, session.ErrProtocol) {
					r.dial = dialSSH
				}
				if err := r.run(t.Context()); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		})
	}
}

func TestAFullDiskEndsTheProgram(t *testing.T) {
	t.Parallel()
	w := &world{script: []any{"a:1"}, servers: map[string]int{"a:1": -1}}
	defer w.wg.Wait()
	r := &runner{settings: settings{wait: true}, allocator: w, dial: w.dial, stdout: fullDisk{}, notes: io.Discard}
	if err := r.run(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want %v", err, syscall.ENOSPC)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func dialSSH(context.Context, string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		_, _ = bufio.NewReader(there).ReadString('\n')
		_, _ = io.WriteString(there, "SSH-2.0-OpenSSH_9.6\r\n")
		_ = there.Close()
	}()
	return here, nil
}
