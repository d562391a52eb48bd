package server

import "bytes"

// MaxLine is the longest line that is accepted, in bytes, without its end.
const MaxLine = 1 << 10

const quitLine = "quit"

// found is what lines.next has found.
type found int

const (
	nothing found = iota // the bytes end in the middle of a line
	line
	quit
	tooLong
)

// lines finds the lines in a stream of bytes. Of a line it keeps only as many bytes as it needs to recognise "quit", so
// a long line costs no memory. The zero value is at the start of a line. It must not be used any more after tooLong.
type lines struct {
	length int  // bytes of the current line
	last   byte // the newest of them
	head   [len(quitLine)]byte
}

// next looks at p up to the end of the first line, and returns what it found and
// how many bytes of p that took.
func (l *lines) next(p []byte) (found, int) {
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		l.take(p)
		if l.content() > MaxLine {
			return tooLong, len(p)
		}
		return nothing, len(p)
	}
	l.take(p[:end])
	what := line
	switch n := l.content(); {
	case n > MaxLine:
		what = tooLong
	case n == len(quitLine) && string(l.head[:]) == quitLine:
		what = quit
	}
	l.length = 0
	return what, end + 1
}

func (l *lines) take(p []byte) {
	if len(p) == 0 {
		return
	}
	if l.length < len(l.head) {
		copy(l.head[l.length:], p)
	}
	l.length += len(p)
	l.last = p[len(p)-1]
}

// content is the length of the line without a '\r' at its end.
func (l *lines) content() int {
	if l.length > 0 && l.last == '\r' {
		return l.length - 1
	}
	return l.length
}
