package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"cloudmaster/internal/peer"
	"cloudmaster/services/fib-server/internal/fib"
)

const (
	// readSize is the size of the read buffer that every connection keeps. It bounds the number of requests that are
	// answered together; the buffers of 10,000 idle connections take 10 MB.
	readSize = 1024
	// flushSize is how many bytes of answers are collected before they are written.
	flushSize = 32 << 10

	// tableSize is how many numbers are computed once for all clients: 105 KB of text.
	tableSize = 1000

	// maxRefusals bounds the refusals under way at the same time. The connections of further clients are closed without
	// a message.
	maxRefusals = 256
	// lingerTime and lingerBytes bound what a client may still send after its last answer, see linger.
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// textTooLong is what a client is told before its connection is closed because of an endless line.
const textTooLong = "error: line too long\n"

// refusal is why a client is refused or cut off.
type refusal struct {
	reason string // as a label of metrics
	text   string // what the client is told
}

// Error says what the client is told.
func (r *refusal) Error() string { return r.text }

// lastLine is the last line that the client gets.
func (r *refusal) lastLine() string { return "error: " + r.text + "\n" }

// The refusals.
var (
	errFull        = &refusal{"full", "server full"}
	errConnections = &refusal{"connections", "too many connections from your address, close one of them first"}
	errNumbers     = &refusal{"numbers", "too many numbers for your address, try again in a minute"}
	errBytes       = &refusal{"bytes", "too many bytes for your address, try again in a minute"}
)

// Why a conversation ended, beside the errors of the connection.
var (
	errQuit    = errors.New("client quit")
	errTooLong = errors.New("line too long")
)

// ServeConn serves one client and returns when it is gone. The end of ctx closes the connection at once. If the server
// has as many clients as the connection limit allows, or the client's peer has as many as it may, it is refused.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	closeConn := func() { _ = conn.Close() } // there is nothing that could be done about an error
	defer closeConn()
	defer context.AfterFunc(ctx, closeConn)()
	k := peer.Of(conn.RemoteAddr().String())
	if why := s.enter(k); why != nil {
		s.refuse(conn, why)
		return
	}
	defer s.leave(k)
	c := &conversation{server: s, conn: conn, peer: k}
	err := c.converse()
	why, cut := errors.AsType[*refusal](err)
	if cut {
		c.tell(why)
	}
	if cut || errors.Is(err, errQuit) || errors.Is(err, errTooLong) {
		linger(conn)
	}
	s.opts.Log.DebugContext(ctx, "client is gone", "client", conn.RemoteAddr().String(), "reason", reason(ctx, err))
}

// refuse tells a client that there is no room for it.
func (s *Server) refuse(conn net.Conn, why *refusal) {
	s.metrics.refused.WithLabelValues(why.reason).Inc()
	select {
	case s.refusal <- struct{}{}:
		defer func() { <-s.refusal }()
	default:
		return
	}
	if err := conn.SetWriteDeadline(time.Now().Add(lingerTime)); err != nil {
		return
	}
	if _, err := io.WriteString(conn, why.lastLine()); err == nil {
		linger(conn)
	}
}

// linger reads for a short time after the last answer to a client. If a connection is closed while bytes are unread it
// is reset, and the client may then see the reset before the answer.
func linger(conn net.Conn) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, lingerBytes) // however it ends, the next step is to close
}

// conversation is the state of one connection.
type conversation struct {
	server *Server
	conn   net.Conn
	peer   peer.Key
	lines  lines
	unpaid int          // numbers in the buffer of answers that are not yet taken from what the peer may have
	asked  int          // numbers given, up to the length of the server's table
	seq    fib.Sequence // continues where the table ends
	in     [readSize]byte
}

// converse answers until the connection ends, and returns why it did.
func (c *conversation) converse() error {
	if err := c.restartIdle(); err != nil {
		return err
	}
	for {
		n, err := c.conn.Read(c.in[:])
		if n > 0 {
			if err := c.answer(c.in[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// restartIdle gives the client the idle timeout to end its next line.
func (c *conversation) restartIdle() error {
	return c.conn.SetReadDeadline(time.Now().Add(c.server.opts.IdleTimeout))
}

// answer answers all lines that end in p, together if they fit.
func (c *conversation) answer(p []byte) error {
	buf := c.server.buffers.get()
	defer c.server.buffers.put(buf)
	answered := false
	for len(p) > 0 {
		what, n := c.lines.next(p)
		p = p[n:]
		switch what {
		case line:
			*buf = append(c.appendNext(*buf), '\n')
			answered = true
			c.unpaid++
			c.server.metrics.lines.Inc()
			if len(*buf) >= flushSize {
				if err := c.flush(buf); err != nil {
					return err
				}
			}
		case quit:
			return errors.Join(errQuit, c.flush(buf))
		case tooLong:
			*buf = append(*buf, textTooLong...)
			return errors.Join(errTooLong, c.flush(buf))
		case nothing:
		}
	}
	if !answered {
		return nil
	}
	if err := c.flush(buf); err != nil {
		return err
	}
	return c.restartIdle()
}

// appendNext appends the client's next number. The first numbers come from the table that all clients share, so that
// most clients need no memory for numbers of their own.
func (c *conversation) appendNext(dst []byte) []byte {
	table := c.server.table
	if c.asked < table.Len() {
		c.asked++
		if c.asked == table.Len() {
			c.seq = table.Rest()
		}
		return table.Append(dst, c.asked-1)
	}
	c.seq.Next()
	return c.seq.Append(dst)
}

// tell writes why the client is cut off, if it reads that soon.
func (c *conversation) tell(why *refusal) {
	c.server.metrics.refused.WithLabelValues(why.reason).Inc()
	if c.conn.SetWriteDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.WriteString(c.conn, why.lastLine()) // the connection is closed next, whatever comes of this
	}
}

// flush writes what is in the buffer and empties it, if the peer may have that.
func (c *conversation) flush(buf *[]byte) error {
	if len(*buf) == 0 {
		return nil
	}
	if why := c.server.spend(c.peer, c.unpaid, len(*buf)); why != nil {
		return why
	}
	c.unpaid = 0
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.server.opts.WriteTimeout)); err != nil {
		return err
	}
	n, err := c.conn.Write(*buf)
	c.server.metrics.bytes.Add(float64(n))
	*buf = (*buf)[:0]
	return err
}

// reason says in a word or two why a conversation ended.
func reason(ctx context.Context, err error) string {
	switch {
	case ctx.Err() != nil:
		return "server stops"
	case errors.Is(err, io.EOF):
		return "client closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "idle or slow: " + err.Error()
	}
	return err.Error()
}
