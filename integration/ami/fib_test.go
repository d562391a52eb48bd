package ami

import (
	"bufio"
	"fmt"
	"math"
	"net"
	"testing"
	"time"

	"cloudmaster/integration/sample"
	"cloudmaster/internal/message"
)

// TestFib is the life of a server: it boots, a client on the host gets numbers and makes load, and
// the machine is powered off while the client is connected. After the next power-on it serves again.
func TestFib(t *testing.T) {
	needImage(t, "fib")
	w := onNATS(t)
	w.powerOn()
	first := w.wantStatus(0, message.Idle)
	w.wantQuickStart(first)
	w.wantEC2()
	want := fmt.Sprintf("guest.example.com:%d", guestFibPort)
	if got := first.Message.(message.Status).Address; got != want {
		t.Errorf("address for clients: got %q, want %q", got, want)
	}

	client := w.connect()
	client.wantNumbers(t, 90)
	w.wantLoad(0, 0.1)
	mark := w.heard.mark()
	client.close(t)
	w.wantLoad(mark, 0)

	client = w.connect()
	client.wantNumbers(t, 3)
	w.pressPower()
	w.wantLog(mark, "Draining: 1 clients connected")
	client.wantNumbers(t, 5) // the client is served until it leaves
	client.close(t)
	w.wantOff()
	w.wantStoppedWell()

	mark = w.heard.mark()
	w.powerOn()
	w.wantLoad(mark, 0)
	client = w.connect()
	client.wantNumbers(t, 10)
	client.close(t)
}

// wantLoad waits for a status with this load.
func (w *world) wantLoad(from int, load float64) {
	w.t.Helper()
	w.until(fmt.Sprintf("the guest reports load %g", load), func() bool {
		_, ok := w.heard.status(from, func(s message.Status) bool { return math.Abs(s.Load-load) < 1e-9 })
		return ok
	})
}

// client is a client of the guest's fib-server.
type client struct {
	net.Conn
	lines *bufio.Scanner
	got   []string
}

// connect connects a client from the host.
func (w *world) connect() *client {
	w.t.Helper()
	conn, err := net.DialTimeout("tcp", w.fib, patience)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	return &client{Conn: conn, lines: bufio.NewScanner(conn)}
}

// wantNumbers asks for the next n numbers and checks them.
func (c *client) wantNumbers(t *testing.T, n int) {
	t.Helper()
	for range n {
		if _, err := fmt.Fprintln(c); err != nil {
			t.Fatal(err)
		}
		if !c.lines.Scan() {
			t.Fatalf("the guest hangs up after %d numbers: %v", len(c.got), c.lines.Err())
		}
		c.got = append(c.got, c.lines.Text())
	}
	if !sample.Fibonacci(c.got) {
		t.Errorf("got %q, want Fibonacci numbers", c.got)
	}
}

func (c *client) close(t *testing.T) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
