package session_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/clients/fib-client/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// begin starts a session whose server answers each line with the next of answers, and
// then closes. lines returns what the server was sent.
func begin(t *testing.T, answers ...string) (s *session.Session, lines func() []string) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan []string, 1)
	go func() {
		var got []string
		r := bufio.NewReader(there)
		for _, a := range answers {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			got = append(got, line)
			_, _ = io.WriteString(there, a)
		}
		_ = there.Close()
		done <- got
	}()
	s = session.New(here)
	t.Cleanup(s.Close)
	return s, func() []string { return <-done }
}

func TestNextReturnsTheAnswers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("7", 100_000)
	s, lines := begin(t, "1\n", "1\n", long+"\n", "")
	for _, want := range []string{"1", "1", long} {
		if got, err := s.Next(t.Context()); err != nil || got != want {
			t.Fatalf("got %.40s, %v, want %.40s", got, err, want)
		}
	}
	s.Quit()
	if got := lines(); len(got) != 4 || got[3] != "quit\n" {
		t.Errorf("got %q, want a quit at last", got)
	}
}

func TestNextFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		want   error
	}{
		"closed":            {"", session.ErrClosed},
		"cut off":           {"123", session.ErrClosed},
		"not a number":      {"SSH-2.0-OpenSSH\n", session.ErrProtocol},
		"empty":             {"\n", session.ErrProtocol},
		"negative":          {"-1\n", session.ErrProtocol},
		"no end in sight":   {strings.Repeat("1", 17<<20), session.ErrProtocol},
		"Windows line ends": {"1\r\n", session.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := begin(t, c.answer)
			if got, err := s.Next(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("got %.40q, %v, want %v", got, err, c.want)
			}
		})
	}
}

func TestARefusalIsQuoted(t *testing.T) {
	t.Parallel()
	s, _ := begin(t, "error: server full\x1b[1m\n")
	_, err := s.Next(t.Context())
	if _, ok := errors.AsType[*session.RefusedError](err); !ok ||
		err.Error() != `the server says: "server full\x1b[1m"` {
		t.Errorf("got %v, want the server's words, quoted", err)
	}
}

func TestASilentServerIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer func() { _ = there.Close() }()
		s, start := session.New(here), time.Now()
		defer s.Close()
		go func() { _, _ = there.Read(make([]byte, 1)) }()
		_, err := s.Next(t.Context())
		if d := time.Since(start); err == nil || d != 30*time.Second {
			t.Errorf("got %v after %s, want an error after 30s", err, d)
		}
	})
}

func TestTheEndOfTheContextInterrupts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		s := session.New(here)
		ctx, cancel := context.WithCancelCause(t.Context())
		reason, lines := errors.New("enough"), make(chan string)
		go func() {
			r := bufio.NewReader(there)
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					close(lines)
					return
				}
				lines <- line
			}
		}()
		go func() {
			<-lines // the question, which gets no answer
			cancel(reason)
		}()
		start := time.Now()
		if _, err := s.Next(ctx); !errors.Is(err, reason) || time.Since(start) != 0 {
			t.Errorf("got %v after %s, want %v at once", err, time.Since(start), reason)
		}
		go s.Quit()
		if got := <-lines; got != "quit\n" {
			t.Errorf("got %q, want quit", got)
		}
		if _, more := <-lines; more {
			t.Error("the connection was not closed")
		}
	})
}
