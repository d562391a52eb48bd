package broker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"cloudmaster/internal/backend/natsbackend"
)

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
