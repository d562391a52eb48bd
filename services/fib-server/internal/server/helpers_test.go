package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/services/fib-server/internal/server"
)

// envChild makes the test binary a server, so that its memory can be measured
// apart from that of its clients.
const envChild = "FIB_SERVER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(envChild) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

func mustNew(tb testing.TB, opts server.Options) *server.Server {
	tb.Helper()
	s, err := server.New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// serve runs the server on a listener and returns what stops it. It waits for the
// end of the server before the test ends.
func serve(tb testing.TB, s *server.Server, l net.Listener) (stop func(), result <-chan error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- s.Serve(ctx, l) })
	tb.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return cancel, done
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := server.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// client is the other end of a connection.
type client struct {
	net.Conn
	r *bufio.Reader
}

func newClient(tb testing.TB, conn net.Conn) *client {
	tb.Helper()
	tb.Cleanup(func() { _ = conn.Close() })
	return &client{Conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
}

func dial(tb testing.TB, l net.Listener) *client {
	tb.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return newClient(tb, conn)
}

// dialFrom connects from another address of this machine.
func dialFrom(tb testing.TB, from string, l net.Listener) *client {
	tb.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return newClient(tb, conn)
}

// send writes beside the test, as the kernel would for a socket.
func (c *client) send(tb testing.TB, text string) {
	tb.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.WriteString(c.Conn, text) }) // a server that hangs up is seen by reading
	tb.Cleanup(func() {
		_ = c.Close()
		wg.Wait()
	})
}

func (c *client) wantLines(tb testing.TB, want ...string) {
	tb.Helper()
	for i, w := range want {
		got, err := c.r.ReadString('\n')
		if err != nil || got != w+"\n" {
			tb.Fatalf("line %d: got %.40q, %v, want %q", i+1, got, err, w)
		}
	}
}

// wantEnd fails unless the server has ended the connection in an orderly way.
func (c *client) wantEnd(tb testing.TB) {
	tb.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		tb.Fatalf("got %.40q, %v, want the end of the connection", rest, err)
	}
}

// ask sends one line and waits for the answer.
func (c *client) ask(tb testing.TB, want string) {
	tb.Helper()
	if _, err := io.WriteString(c.Conn, "\n"); err != nil {
		tb.Fatal(err)
	}
	c.wantLines(tb, want)
}

// pipes is a listener of in-memory connections, for tests in fake time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	fail    error // guarded by mu; what Accept returns instead, if set
	accepts int   // guarded by mu
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept returns the next connection, or the error that the test wants.
func (p *pipes) Accept() (net.Conn, error) {
	p.mu.Lock()
	p.accepts++
	fail := p.fail
	p.mu.Unlock()
	if fail != nil {
		return nil, fail
	}
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close makes Accept fail.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr names no place.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) failWith(err error) (accepts int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
	return p.accepts
}

func (p *pipes) dial(tb testing.TB) *client {
	tb.Helper()
	here, there := net.Pipe()
	select {
	case p.conns <- there:
	case <-time.After(10 * time.Second):
		tb.Fatal("the server did not accept the connection within 10 s")
	}
	return newClient(tb, here)
}

// logBook collects log lines.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to the book.
func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func (b *logBook) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), text)
}

// book keeps the numbers of clients that a server told, in order.
type book struct {
	mu   sync.Mutex
	cond *sync.Cond
	told []int
}

func newBook() *book {
	b := &book{}
	b.cond = sync.NewCond(&b.mu)
	return b
}

func (b *book) changed(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, n)
	b.cond.Broadcast()
}

// wait returns when the newest number told is n.
func (b *book) wait(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.told) == 0 || b.told[len(b.told)-1] != n {
		b.cond.Wait()
	}
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprint(b.told)
}
