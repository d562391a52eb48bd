package server_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cloudmaster/services/fib-server/internal/server"
)

func TestEachConnectionHasItsOwnSequence(t *testing.T) {
	t.Parallel()
	l := listen(t)
	serve(t, mustNew(t, server.Options{}), l)
	a, b := dial(t, l), dial(t, l)
	for _, want := range []string{"1", "1", "2", "3", "5", "8", "13"} {
		a.ask(t, want)
	}
	b.ask(t, "1")
	a.ask(t, "21")
}

func TestConversations(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"a line that has no end is not answered": {"\n\nabc", []string{"1", "1"}},
		"telnet":                                 {"\r\nhello\r\n", []string{"1", "1"}},
		"quit ends it, what follows is lost":     {"\n\nquit\n\n\n", []string{"1", "1"}},
		"2 KiB line": {
			"\n" + strings.Repeat("x", 2<<10) + "\n", []string{"1", "error: line too long"},
		},
		"1 MiB line":      {strings.Repeat("x", 1<<20), []string{"error: line too long"}},
		"longest line":    {strings.Repeat("x", server.MaxLine) + "\r\n", []string{"1"}},
		"not even a line": {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t)
			serve(t, mustNew(t, server.Options{}), l)
			cl := dial(t, l)
			if tcp, ok := cl.Conn.(*net.TCPConn); ok {
				_, _ = io.WriteString(tcp, c.in) // the server may hang up before it has all
				_ = tcp.CloseWrite()
			}
			cl.wantLines(t, c.want...)
			if len(c.in) < 64<<10 { // beyond what the server lingers for, a reset is fair
				cl.wantEnd(t)
			}
		})
	}
}

func TestPipelinedRequestsAreAllAnswered(t *testing.T) {
	t.Parallel()
	l := listen(t)
	serve(t, mustNew(t, server.Options{}), l)
	c := dial(t, l)
	c.send(t, strings.Repeat("\n", 5000)+"quit\n")
	all, err := io.ReadAll(c.r)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(all), "\n"), "\n")
	if len(got) != 5000 || got[99] != "354224848179261915075" || len(got[4999]) != 1045 {
		t.Errorf("got %d lines, the 100th %.40s, the last of %d digits; want 5000, 354224848179261915075, 1045",
			len(got), got[min(99, len(got)-1)], len(got[len(got)-1]))
	}
}

// The default limit is 1000: the 1,001st client is told so, and takes a place once there is one.
func TestTheClientPastTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	l, clients := listen(t), newBook()
	reg := prometheus.NewRegistry()
	serve(t, mustNew(t, server.Options{Changed: clients.changed, Registerer: reg}), l)
	var last *client
	for range server.DefaultConnectionLimit {
		last = dial(t, l)
	}
	last.ask(t, "1")
	clients.wait(server.DefaultConnectionLimit)
	extra := dial(t, l)
	extra.send(t, "\n") // even one that has already asked is told why
	extra.wantLines(t, "error: server full")
	extra.wantEnd(t)

	_ = last.Close()
	clients.wait(server.DefaultConnectionLimit - 1)
	next := dial(t, l)
	next.ask(t, "1")
	_ = next.Close()
	clients.wait(server.DefaultConnectionLimit - 1)
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP cloudmaster_fib_connections Clients connected now.
# TYPE cloudmaster_fib_connections gauge
cloudmaster_fib_connections 999
# HELP cloudmaster_fib_lines_total Lines answered with a number.
# TYPE cloudmaster_fib_lines_total counter
cloudmaster_fib_lines_total 2
# HELP cloudmaster_fib_refused_total Clients refused or cut off: the server was full, or one address had too much.
# TYPE cloudmaster_fib_refused_total counter
cloudmaster_fib_refused_total{reason="full"} 1
# HELP cloudmaster_fib_sent_bytes_total Bytes written to clients.
# TYPE cloudmaster_fib_sent_bytes_total counter
cloudmaster_fib_sent_bytes_total 4
`))
	if err != nil {
		t.Error(err)
	}
}

func TestRefusedClientsThatDoNotReadStallNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		serve(t, mustNew(t, server.Options{ConnectionLimit: 1}), l)
		first := l.dial(t)
		synctest.Wait() // until it has the place
		for range 500 {
			l.dial(t) // never reads
		}
		synctest.Wait()
		start := time.Now()
		first.ask(t, "1")
		_ = first.Close()
		synctest.Wait()
		l.dial(t).ask(t, "1")
		if d := time.Since(start); d > 0 {
			t.Errorf("got a delay of %s, want none", d)
		}
		time.Sleep(2 * time.Second) // by then they are given up
		extra := l.dial(t)
		extra.wantLines(t, "error: server full")
		extra.wantEnd(t)
	})
}

func TestAResetInTheMiddleOfALineFreesThePlace(t *testing.T) {
	t.Parallel()
	l, clients := listen(t), newBook()
	serve(t, mustNew(t, server.Options{Changed: clients.changed}), l)
	other, c := dial(t, l), dial(t, l)
	c.ask(t, "1")
	other.ask(t, "1")
	c.send(t, "half a li")
	if tcp, ok := c.Conn.(*net.TCPConn); !ok || tcp.SetLinger(0) != nil {
		t.Fatal("cannot reset the connection")
	}
	_ = c.Close()
	clients.wait(1)
	other.ask(t, "1")
	if got, want := clients.String(), "[1 2 1]"; got != want {
		t.Errorf("numbers of clients: got %s, want %s", got, want)
	}
}

func TestAClientThatEndsNoLineIsClosed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		send  string
		every time.Duration
		times int
		want  time.Duration // how long it lives
	}{
		"sends nothing":                   {"", time.Minute, 0, 10 * time.Minute},
		"sends bytes, but no line":        {"x", time.Minute, 9, 10 * time.Minute},
		"sends a line every nine minutes": {"\n", 9 * time.Minute, 10, 100 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				serve(t, mustNew(t, server.Options{}), l)
				cl, start := l.dial(t), time.Now()
				go func() {
					for range c.times {
						time.Sleep(c.every)
						_, _ = io.WriteString(cl.Conn, c.send)
					}
				}()
				_, err := io.Copy(io.Discard, cl.r)
				if got := time.Since(start); got != c.want || err != nil {
					t.Errorf("closed after %s, %v; want %s", got, err, c.want)
				}
			})
		})
	}
}

func TestASlowReaderIsClosedAndHurtsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, clients := newPipes(), newBook()
		serve(t, mustNew(t, server.Options{Changed: clients.changed}), l)
		slow, start := l.dial(t), time.Now()
		slow.send(t, strings.Repeat("\n", 100_000)) // and never reads an answer
		clients.wait(1)                             // else the other client could be the first
		other := l.dial(t)
		other.ask(t, "1")
		if d := time.Since(start); d != 0 {
			t.Errorf("the other client waited for %s, want no wait", d)
		}
		clients.wait(2)
		clients.wait(1)
		if got, want := time.Since(start), server.DefaultWriteTimeout; got != want {
			t.Errorf("slow reader closed after %s, want %s", got, want)
		}
		other.ask(t, "1")
	})
}

func TestAcceptErrorsAreWaitedOutAndNamedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, log := newPipes(), new(logBook)
		l.failWith(&net.OpError{Op: "accept", Err: syscall.EMFILE})
		serve(t, mustNew(t, server.Options{Log: log.logger()}), l)
		time.Sleep(59 * time.Second)
		if got := l.failWith(nil); got < 60 || got > 80 {
			t.Errorf("got %d attempts in a minute, want about one a second", got)
		}
		if got := log.count("too many open files"); got != 1 {
			t.Errorf("got %d log lines, want 1", got)
		}
		l.dial(t).ask(t, "1")
	})
}

func TestAListenerClosedBySomebodyElseIsAnError(t *testing.T) {
	t.Parallel()
	l := listen(t)
	_, result := serve(t, mustNew(t, server.Options{}), l)
	c := dial(t, l)
	c.ask(t, "1")
	_ = l.Close()
	c.ask(t, "1") // who is connected is served to the end
	_ = c.Close()
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	t.Run("ends with the last client", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newPipes()
			stop, result := serve(t, mustNew(t, server.Options{}), l)
			c := l.dial(t)
			c.ask(t, "1")
			stop()
			synctest.Wait()
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("listener: got %v, want it closed", err)
			}
			start := time.Now()
			time.Sleep(15 * time.Second)
			c.ask(t, "1") // still served
			c.send(t, "quit\n")
			c.wantEnd(t)
			if err := <-result; err != nil || time.Since(start) != 15*time.Second {
				t.Errorf("got %v after %s, want nil after 15s", err, time.Since(start))
			}
		})
	})
	t.Run("closes the rest when its time is over", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l, clients := newPipes(), newBook()
			stop, result := serve(t, mustNew(t, server.Options{Changed: clients.changed, WriteTimeout: time.Hour}), l)
			idle, slow := l.dial(t), l.dial(t)
			idle.ask(t, "1")
			slow.send(t, "\n")
			start := time.Now()
			stop()
			if err := <-result; err != nil || time.Since(start) != server.DefaultDrainTimeout {
				t.Errorf("got %v after %s, want nil after %s", err, time.Since(start), server.DefaultDrainTimeout)
			}
			idle.wantEnd(t)
			if got, want := clients.String(), "[1 2 1 0]"; got != want {
				t.Errorf("numbers of clients: got %s, want %s", got, want)
			}
		})
	})
	t.Run("takes late clients", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			l := newPipes()
			stop, result := serve(t, mustNew(t, server.Options{LateClients: 5 * time.Second}), l)
			start := time.Now()
			stop()
			time.Sleep(4 * time.Second)
			late := l.dial(t)
			late.ask(t, "1")
			time.Sleep(2 * time.Second)
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("listener after 6s: got %v, want it closed", err)
			}
			if err := <-result; err != nil || time.Since(start) != server.DefaultDrainTimeout {
				t.Errorf("got %v after %s, want nil after %s", err, time.Since(start), server.DefaultDrainTimeout)
			}
			late.wantEnd(t)
		})
	})
	t.Run("waits for late clients although nobody is connected", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			stop, result := serve(t, mustNew(t, server.Options{LateClients: 5 * time.Second}), newPipes())
			start := time.Now()
			stop()
			if err := <-result; err != nil || time.Since(start) != 5*time.Second {
				t.Errorf("got %v after %s, want nil after 5s", err, time.Since(start))
			}
		})
	})
	t.Run("with nobody connected ends at once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			stop, result := serve(t, mustNew(t, server.Options{}), newPipes())
			start := time.Now()
			stop()
			if err := <-result; err != nil || time.Since(start) != 0 {
				t.Errorf("got %v after %s, want nil at once", err, time.Since(start))
			}
		})
	})
}

func TestNewRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	_, err := server.New(server.Options{
		ConnectionLimit: -1, IdleTimeout: -time.Second, WriteTimeout: -1, DrainTimeout: -1,
		LateClients: time.Hour,
	})
	if err == nil {
		t.Fatal("got nil, want an error")
	}
	want := []string{
		"connection limit must be at least 1, not -1",
		"idle timeout must not be negative: -1s",
		"write timeout must not be negative: -1ns",
		"drain timeout must not be negative: -1ns",
		"time for late clients must not be longer than the drain timeout (-1ns): 1h0m0s",
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}
