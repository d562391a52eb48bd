// Package session is one conversation with a fib server: a line is sent, the next
// Fibonacci number comes back.
package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	answerTimeout = 30 * time.Second
	quitTimeout   = time.Second
	maxAnswer     = 16 << 20 // digits; nobody waits for a longer number
)

// The errors that callers act on.
var (
	// ErrProtocol: what answers is no fib server; another try will not help.
	ErrProtocol = errors.New("this is not a fib server")
	// ErrClosed: the server has ended the conversation.
	ErrClosed = errors.New("it closed the connection")
)

// RefusedError is what a server said instead of a number, such as "server full".
type RefusedError struct{ Text string }

// Error names the server's words.
func (e *RefusedError) Error() string { return "the server says: " + e.Text }

// Session is one conversation. It is not safe for concurrent use.
type Session struct {
	conn net.Conn
	r    *bufio.Reader
}

// New begins a conversation on a connection, which then belongs to the session.
func New(conn net.Conn) *Session {
	return &Session{conn: conn, r: bufio.NewReader(conn)}
}

// Next asks for the next number and returns its decimal text. After an error, also that of ctx, only Close and Quit may
// be called.
func (s *Session) Next(ctx context.Context) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return "", err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = s.conn.SetDeadline(time.Unix(1, 0)) // it fails only on a closed connection, which needs no interruption
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
	}()
	if _, err := io.WriteString(s.conn, "\n"); err != nil {
		// The server may have sent its reason before it hung up.
		_, said := s.answer()
		if _, refused := errors.AsType[*RefusedError](said); refused || errors.Is(said, ErrClosed) {
			err = said
		}
		return "", orCause(ctx, err)
	}
	text, err := s.answer()
	return text, orCause(ctx, err)
}

// answer reads one line and checks that it is a number.
func (s *Session) answer() (string, error) {
	var line []byte
	for {
		part, err := s.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return check(strings.TrimSuffix(string(line), "\n"))
		case len(line) > maxAnswer:
			return "", fmt.Errorf("%w: its answer is longer than %d bytes", ErrProtocol, maxAnswer)
		case errors.Is(err, io.EOF):
			return "", ErrClosed
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}

func check(line string) (string, error) {
	if text, refused := strings.CutPrefix(line, "error: "); refused {
		return "", &RefusedError{Text: fmt.Sprintf("%.80q", text)}
	}
	if line == "" || strings.Trim(line, "0123456789") != "" {
		return "", fmt.Errorf("%w: it answers %.40q", ErrProtocol, line)
	}
	return line, nil
}

// orCause returns the cause of ctx's end in place of an error that came with that end.
func orCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Quit sends "quit", if the server still reads, and closes the connection.
func (s *Session) Quit() {
	if s.conn.SetDeadline(time.Now().Add(quitTimeout)) == nil {
		_, _ = io.WriteString(s.conn, "quit\n") // an error does not matter: closing tells the server the same
	}
	s.Close()
}

// Close closes the connection.
func (s *Session) Close() {
	_ = s.conn.Close() // nothing can be lost any more
}
