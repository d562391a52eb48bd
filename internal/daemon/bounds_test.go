package daemon_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudmaster/internal/daemon"
)

// serveNothing serves on a free port until the test ends, and returns a connection to it.
func serveNothing(t *testing.T) net.Conn {
	t.Helper()
	l := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = daemon.ServeHTTP(ctx, l, http.NotFoundHandler(), nil) })
	t.Cleanup(func() { stop(); wg.Wait() })
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLargeHeader: a header of 8 KiB is taken, and one of 64 KiB is not.
func TestLargeHeader(t *testing.T) {
	t.Parallel()
	const tooLarge = http.StatusRequestHeaderFieldsTooLarge
	for size, want := range map[int]int{8 << 10: http.StatusNotFound, 64 << 10: tooLarge} {
		c := serveNothing(t)
		go func() { // the server may answer before it has read all
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n", strings.Repeat("x", size))
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes: got %d, want %d", size, resp.StatusCode, want)
		}
	}
}

// TestSlowHeader: who sends a header letter by letter is cut off, however long that goes on.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	c := serveNothing(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, c)
	}()
	start := time.Now()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX: ")
	for tick := time.Tick(100 * time.Millisecond); ; <-tick {
		select {
		case <-ended:
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("the connection was ended after %v, want about 5 s", took)
			}
			return
		default:
			_, _ = io.WriteString(c, "x")
		}
	}
}
