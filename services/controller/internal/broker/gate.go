package broker

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	handshakeTimeout = 10 * time.Second
	// loginTimeout is how long a client may take from its connection to its login. The server counts the handshake in.
	loginTimeout = 15 * time.Second
	// writeTimeout is how long a client may take for 8 KiB of what it is sent. It is that of the server.
	writeTimeout = 10 * time.Second
	lineSize     = 8 << 10 // the server takes lines of 4 KiB
	linefeed     = "\r\n"
)

// timeouts are those of clients; 0 means the constants above.
type timeouts struct{ handshake, login, write time.Duration }

// gate stands in front of a server whose clients must log in, or speak TLS. It takes their connections, and passes on
// what they say, except what names a subject for the answer that is no inbox. The server checks to which subjects a
// client publishes and listens, but not where it wants the answer. JetStream publishes its answers with all rights, so
// that a worker could have the answer "no messages" sent to the subject that deletes a stream, or a job of its own
// choice to the status queue of others.
type gate struct {
	listener net.Listener
	srv      *server.Server
	tls      *tls.Config // nil: no TLS
	near     func(net.Conn) bool
	log      *slog.Logger
	visitors *visitors
	logins   bool // clients must log in
	wait     timeouts
	running  sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]struct{} // guarded by mu
	closed bool                  // guarded by mu
}

// openGate takes connections for a server.
func openGate(
	ctx context.Context, o *Options, srv *server.Server, conf *tls.Config, v *visitors,
) (*gate, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("broker: listen: %w; choose another listen address", err)
	}
	g := &gate{
		listener: l, srv: srv, tls: conf, near: o.near, log: o.Log, visitors: v, logins: o.Logins,
		open: make(map[net.Conn]struct{}),
		wait: timeouts{
			handshake: cmp.Or(o.wait.handshake, handshakeTimeout), write: cmp.Or(o.wait.write, writeTimeout),
		},
	}
	if g.near == nil {
		g.near = isNear
	}
	g.running.Go(g.accept)
	return g, nil
}

// accept takes connections until the listener is closed.
func (g *gate) accept() {
	const pause = 50 * time.Millisecond // after an error, for example too many open files
	for {
		c, err := g.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			g.log.Warn("broker cannot take a connection", "error", err)
			timer := time.NewTimer(pause)
			<-timer.C
		default:
			g.running.Go(func() { g.serve(c) })
		}
	}
}

// keep notes a connection, so that close ends it; false if the gate is closed already.
func (g *gate) keep(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.open[c] = struct{}{}
	}
	return !g.closed
}

func (g *gate) drop(c net.Conn) {
	g.mu.Lock()
	delete(g.open, c)
	g.mu.Unlock()
	_ = c.Close() // nobody waits for what is lost
}

// close ends all connections and returns when nothing of the gate runs any more.
func (g *gate) close() error {
	err := g.listener.Close()
	g.mu.Lock()
	g.closed = true
	for c := range g.open {
		_ = c.Close()
	}
	g.mu.Unlock()
	g.running.Wait()
	return err
}

// serve passes on what is said on one connection, until either side ends it.
func (g *gate) serve(client net.Conn) {
	if !g.keep(client) {
		_ = client.Close()
		return
	}
	defer g.drop(client)
	who := g.visitors.enter(client.RemoteAddr(), g.near(client))
	if who == nil {
		return
	}
	defer g.visitors.leave(who)
	inner, err := g.srv.InProcessConn()
	if err != nil {
		g.log.Debug("the broker takes no connection", "error", err)
		return
	}
	defer func() { _ = inner.Close() }()
	answers := bufio.NewReaderSize(inner, lineSize)
	outer, err := g.greet(client, answers, who)
	if err != nil {
		g.log.Debug("a connection to the broker ended before the login", "error", err,
			"from", client.RemoteAddr().String())
		return
	}
	if !g.logins {
		g.visitors.in(who) // TLS was all that there was to do
	}
	var back sync.WaitGroup
	back.Go(func() {
		if err := answer(outer, answers, g.wait.write); errors.Is(err, os.ErrDeadlineExceeded) {
			g.visitors.turnAway(refusedDeaf, "the broker ended the connection of a client that does not read what it "+
				"is sent", client.RemoteAddr())
		}
		_ = client.Close()
	})
	err = pass(inner, outer)
	if errors.Is(err, errForbidden) {
		g.visitors.turnAway(refusedForbidden, "the broker ended the connection of a client that did what it must not",
			client.RemoteAddr(), "error", err)
	}
	_ = inner.Close()
	_ = client.Close()
	back.Wait()
}

// answer copies what the server says, until either side closes. A client that takes nothing of it for so long is an
// error: the server ends its side of such a connection, but would leave ours open for as long as the client likes.
func answer(to net.Conn, from io.Reader, wait time.Duration) error {
	part := make([]byte, lineSize)
	for {
		n, err := from.Read(part)
		if err != nil {
			return err
		}
		if err := to.SetWriteDeadline(time.Now().Add(wait)); err != nil {
			return err
		}
		if _, err := to.Write(part[:n]); err != nil {
			return err
		}
	}
}

// greet sends the client what the server says first, and makes the connection one with TLS if there is to be. Programs
// of this machine may do without TLS, because nobody else hears what they say, and because the name that they use may
// not be in the certificate.
func (g *gate) greet(client net.Conn, answers *bufio.Reader, who *visitor) (net.Conn, error) {
	line, err := answers.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	number, err := connection(line)
	if err != nil {
		return nil, err
	}
	g.visitors.number(who, number)
	if err := client.SetDeadline(time.Now().Add(g.wait.handshake)); err != nil {
		return nil, err
	}
	if g.tls == nil {
		if _, err := client.Write(line); err != nil {
			return nil, err
		}
		return client, client.SetDeadline(time.Time{})
	}
	near := who.near
	if line, err = offerTLS(line, near); err != nil {
		return nil, err
	}
	if _, err := client.Write(line); err != nil {
		return nil, err
	}
	peeked := &peekedConn{Conn: client, in: bufio.NewReaderSize(client, lineSize)}
	first, err := peeked.in.Peek(1)
	if err != nil {
		return nil, err
	}
	const handshake = 0x16 // begins each connection with TLS, and no line of NATS
	if near && first[0] != handshake {
		return peeked, client.SetDeadline(time.Time{})
	}
	secured := tls.Server(peeked, g.tls)
	if err := secured.HandshakeContext(context.Background()); err != nil { // bounded by the deadline
		return nil, err
	}
	return secured, client.SetDeadline(time.Time{})
}

// isNear reports whether a connection comes from this machine: over loopback, or from the address that it goes to.
func isNear(c net.Conn) bool {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	to, ok2 := c.LocalAddr().(*net.TCPAddr)
	return ok && ok2 && (from.IP.IsLoopback() || from.IP.Equal(to.IP))
}

// peekedConn is a connection of which something has been read ahead.
type peekedConn struct {
	net.Conn

	in *bufio.Reader
}

// Read reads what was read ahead, then the connection.
func (c *peekedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// connection returns the server's number of a connection, which its first line has.
func connection(line []byte) (uint64, error) {
	var info struct {
		Number uint64 `json:"client_id"`
	}
	text, ok := bytes.CutPrefix(line, []byte(infoOp))
	if !ok || json.Unmarshal(text, &info) != nil {
		return 0, errNoInfo
	}
	return info.Number, nil
}

const infoOp = "INFO "

var errNoInfo = errors.New("the server's first line is not its INFO")

// offerTLS changes the server's first line so that it asks for TLS, or, if the client may choose, offers it.
func offerTLS(line []byte, choice bool) ([]byte, error) {
	text, ok := bytes.CutPrefix(line, []byte(infoOp))
	var info map[string]any
	if !ok || json.Unmarshal(text, &info) != nil {
		return nil, errNoInfo
	}
	key := "tls_required"
	if choice {
		key = "tls_available"
	}
	info[key] = true
	doc, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	return append(append([]byte(infoOp), doc...), linefeed...), nil
}
