package server_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cloudmaster/services/fib-server/internal/server"
)

const (
	lastConnections = "error: too many connections from your address, close one of them first"
	lastNumbers     = "error: too many numbers for your address, try again in a minute"
	lastBytes       = "error: too many bytes for your address, try again in a minute"
)

func TestAPeerWithTooManyConnectionsIsRefused(t *testing.T) {
	t.Parallel()
	l, clients := listen(t), newBook()
	serve(t, mustNew(t, server.Options{PeerConnections: 2, Changed: clients.changed}), l)
	one, two := dial(t, l), dial(t, l)
	one.ask(t, "1")
	two.ask(t, "1")
	extra := dial(t, l)
	extra.send(t, "\n")
	extra.wantLines(t, lastConnections)
	extra.wantEnd(t)
	two.ask(t, "1") // the others are served
	_ = one.Close()
	clients.wait(1)
	dial(t, l).ask(t, "1")
}

// TestAConnectionThatIsRefusedForWantOfRoomTakesNoneFromItsPeer: what it was given is taken back.
func TestAConnectionThatIsRefusedForWantOfRoomTakesNoneFromItsPeer(t *testing.T) {
	t.Parallel()
	l, clients := listen(t), newBook()
	serve(t, mustNew(t, server.Options{PeerConnections: 2, ConnectionLimit: 1, Changed: clients.changed}), l)
	one := dial(t, l)
	one.ask(t, "1")
	for range 5 {
		dial(t, l).wantLines(t, "error: server full")
	}
	_ = one.Close()
	clients.wait(0)
	dial(t, l).ask(t, "1")
}

// TestAPeerThatTakesTooMuch is cut off with a last line that says why, in all its connections, and others are served.
func TestAPeerThatTakesTooMuch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opts      server.Options
		last      string
		most      int // bytes that the peer gets before the last line
		leastSize int
	}{
		"numbers": {server.Options{PeerNumbers: 100}, lastNumbers, 100 << 10, 0},
		"bytes":   {server.Options{PeerBytes: 200_000}, lastBytes, 200_000 + 34<<10, 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, reg := listen(t), prometheus.NewRegistry()
			c.opts.Registerer = reg
			serve(t, mustNew(t, c.opts), l)
			greedy, beside := dial(t, l), dial(t, l)
			beside.ask(t, "1")
			greedy.send(t, strings.Repeat("\n", 5000))
			if err := greedy.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil { // if it is not cut off
				t.Fatal(err)
			}
			got, err := io.ReadAll(greedy.r)
			if err != nil || !bytes.HasSuffix(got, []byte("\n"+c.last+"\n")) {
				t.Fatalf("got %v and %.200q at the end, want %q", err, got[max(0, len(got)-200):], c.last)
			}
			if len(got) > c.most || len(got) < c.leastSize {
				t.Errorf("got %d bytes, want %d to %d", len(got), c.leastSize, c.most)
			}
			beside.send(t, "\n")
			beside.wantLines(t, c.last)
			beside.wantEnd(t)
			if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP cloudmaster_fib_refused_total Clients refused or cut off: the server was full, or one address had too much.
# TYPE cloudmaster_fib_refused_total counter
cloudmaster_fib_refused_total{reason="`+name+`"} 2
`), "cloudmaster_fib_refused_total"); err != nil {
				t.Error(err)
			}
			stranger := dialFrom(t, "127.0.0.2", l)
			stranger.ask(t, "1")
		})
	}
}

// TestNumbersCountOnce, however they are asked for.
func TestNumbersCountOnce(t *testing.T) {
	t.Parallel()
	l := listen(t)
	serve(t, mustNew(t, server.Options{PeerNumbers: 100}), l)
	c := dial(t, l)
	for n := range 90 {
		if _, err := io.WriteString(c.Conn, "\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := c.r.ReadString('\n'); err != nil || strings.HasPrefix(got, "error") {
			t.Fatalf("number %d: got %q, %v", n+1, got, err)
		}
	}
}
