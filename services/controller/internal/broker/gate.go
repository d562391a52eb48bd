package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"cloudmaster/internal/backend/natsbackend"
)

const (
	handshakeTimeout = 10 * time.Second
	// authTimeout is how long a client may take from its connection to its login, in seconds. The server counts the
	// handshake in.
	authTimeout = 15
	lineSize    = 8 << 10 // the server takes lines of 4 KiB
	linefeed    = "\r\n"
)

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
	running  sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]struct{} // guarded by mu
	closed bool                  // guarded by mu
}

// openGate takes connections for a server.
func openGate(
	ctx context.Context, o *Options, srv *server.Server, conf *tls.Config,
) (*gate, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("broker: listen: %w; choose another listen address", err)
	}
	g := &gate{listener: l, srv: srv, tls: conf, near: o.near, log: o.Log, open: make(map[net.Conn]struct{})}
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
	inner, err := g.srv.InProcessConn()
	if err != nil {
		g.log.Debug("the broker takes no connection", "error", err)
		return
	}
	defer func() { _ = inner.Close() }()
	answers := bufio.NewReaderSize(inner, lineSize)
	outer, err := g.greet(client, answers)
	if err != nil {
		g.log.Debug("a connection to the broker ended before the login", "error", err,
			"from", client.RemoteAddr().String())
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(outer, answers) // ends when either side closes
		_ = client.Close()
	})
	err = pass(inner, outer)
	if errors.Is(err, errForbidden) {
		g.log.Warn("the broker ended the connection of a client that did what it must not", "error", err,
			"from", client.RemoteAddr().String())
	}
	_ = inner.Close()
	_ = client.Close()
	back.Wait()
}

// greet sends the client what the server says first, and makes the connection one with TLS if there is to be. Programs
// of this machine may do without TLS, because nobody else hears what they say, and because the name that they use may
// not be in the certificate.
func (g *gate) greet(client net.Conn, answers *bufio.Reader) (net.Conn, error) {
	line, err := answers.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	if g.tls == nil {
		_, err := client.Write(line)
		return client, err
	}
	near := g.near(client)
	if line, err = offerTLS(line, near); err != nil {
		return nil, err
	}
	if err := client.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
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

// offerTLS changes the server's first line so that it asks for TLS, or, if the client may choose, offers it.
func offerTLS(line []byte, choice bool) ([]byte, error) {
	const op = "INFO "
	text, ok := bytes.CutPrefix(line, []byte(op))
	var info map[string]any
	if !ok || json.Unmarshal(text, &info) != nil {
		return nil, errors.New("the server's first line is not its INFO")
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
	return append(append([]byte(op), doc...), linefeed...), nil
}

// errForbidden means that a client said what it may not say, or what is no NATS.
var errForbidden = errors.New("not allowed")

// pass copies what a client says. It understands every line, and is stricter than the server, so that the two never
// take the same bytes for different things.
func pass(to io.Writer, from io.Reader) error {
	in, out := bufio.NewReaderSize(from, lineSize), bufio.NewWriterSize(to, lineSize)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("%w: a line is longer than %d bytes", errForbidden, lineSize)
		}
		if err != nil {
			return err
		}
		size, err := payload(line)
		if err != nil {
			return err
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
		if size >= 0 {
			if err := passPayload(out, in, size); err != nil {
				return err
			}
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

// passPayload copies the body of a message and the line's end behind it.
func passPayload(out io.Writer, in io.Reader, size int64) error {
	if _, err := io.CopyN(out, in, size); err != nil {
		return err
	}
	var end [len(linefeed)]byte
	if _, err := io.ReadFull(in, end[:]); err != nil {
		return err
	}
	if string(end[:]) != linefeed {
		return fmt.Errorf("%w: a message is longer than its line says", errForbidden)
	}
	_, err := out.Write(end[:])
	return err
}

// payload checks a line, and returns how many bytes of a message follow it; -1: none.
func payload(line []byte) (size int64, err error) {
	text, ok := bytes.CutSuffix(line, []byte(linefeed))
	if !ok {
		return 0, fmt.Errorf("%w: a line does not end in CR LF", errForbidden)
	}
	op, rest, _ := bytes.Cut(text, []byte(" "))
	switch string(op) {
	case "CONNECT", "PING", "PONG", "SUB", "UNSUB":
		if bytes.ContainsRune(rest, '\r') {
			return 0, fmt.Errorf("%w: a line has a CR within", errForbidden)
		}
		return -1, nil
	case "PUB":
		return published(rest, 1)
	case "HPUB":
		return published(rest, 2)
	}
	return 0, fmt.Errorf("%w: %q is no operation of a client", errForbidden, clip(op))
}

// published reads the arguments of a message: the subject, perhaps the subject for the answer, and the sizes.
func published(args []byte, sizes int) (size int64, err error) {
	for _, b := range args {
		if b < ' ' && b != '\t' || b == 0x7f {
			return 0, fmt.Errorf("%w: control character in the line of a message", errForbidden)
		}
	}
	words := bytes.FieldsFunc(args, func(r rune) bool { return r == ' ' || r == '\t' })
	switch len(words) - sizes {
	case 1:
	case 2:
		if reply := words[1]; !bytes.HasPrefix(reply, []byte(natsbackend.InboxPrefix)) {
			return 0, fmt.Errorf("%w: the answer to %q is to go to %q, which is no inbox", errForbidden, clip(words[0]),
				clip(reply))
		}
	default:
		return 0, fmt.Errorf("%w: a message has %d words in its line", errForbidden, len(words))
	}
	n, err := strconv.ParseUint(string(words[len(words)-1]), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is not the size of a message", errForbidden, clip(words[len(words)-1]))
	}
	return int64(n), nil
}

// clip bounds what is logged of a stranger's words.
func clip(word []byte) []byte { return word[:min(len(word), 100)] }
