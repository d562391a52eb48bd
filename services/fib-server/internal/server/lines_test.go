package server

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("x", MaxLine)
	for name, c := range map[string]struct {
		in   string
		want []found
	}{
		"nothing":                        {"", nil},
		"empty lines":                    {"\n\n", []found{line, line}},
		"telnet ends lines with CR LF":   {"\r\n\r\n", []found{line, line}},
		"any content":                    {"next\n\x00\xff\n 1 2 3 \n", []found{line, line, line}},
		"no end":                         {"abc", nil},
		"CR alone ends nothing":          {"a\rb\r", nil},
		"quit":                           {"\nquit\n", []found{line, quit}},
		"quit from telnet":               {"quit\r\n", []found{quit}},
		"only one CR is dropped":         {"quit\r\r\n", []found{line}},
		"longer than quit":               {"quits\n", []found{line}},
		"shorter than quit":              {"qui\n", []found{line}},
		"short after long":               {"quit!\nqu\n", []found{line, line}},
		"quit is in small letters":       {"QUIT\n", []found{line}},
		"longest line":                   {full + "\n\n", []found{line, line}},
		"longest line from telnet":       {full + "\r\n\n", []found{line, line}},
		"one byte too long":              {full + "x\n", []found{tooLong}},
		"too long even without its end":  {full + "x", []found{tooLong}},
		"too long with a CR in between":  {full + "\rx", []found{tooLong}},
		"a line that may still be right": {full + "\r", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 3, readSize, len(c.in) + 1} {
				if got := scan([]byte(c.in), size); !slices.Equal(got, c.want) {
					t.Errorf("%.40q in pieces of %d: got %v, want %v", c.in, size, got, c.want)
				}
			}
		})
	}
}

// FuzzLines compares the scanner, fed in pieces, with splitting the whole input.
func FuzzLines(f *testing.F) {
	f.Add([]byte("\n\r\nquit\r\nabc"), uint16(2))
	f.Add([]byte("quit\n"), uint16(1))
	f.Add([]byte("\xbf\n\xbfx\n"), uint16(100))
	f.Add([]byte("\xbf\r\r\n"), uint16(7))
	f.Fuzz(func(t *testing.T, in []byte, size uint16) {
		in = expand(in)
		got, want := scan(in, int(size)%600+1), naive(in)
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// expand makes long lines of short fuzz input, which the fuzzer works through
// much faster: a byte from 0x80 on stands for a run of letters, 0xbf for MaxLine.
func expand(in []byte) []byte {
	var out []byte
	for _, b := range in {
		if b < 0x80 {
			out = append(out, b)
			continue
		}
		out = append(out, bytes.Repeat([]byte("x"), int(b-0x7f)*MaxLine/64)...)
	}
	return out
}

// scan feeds in to a scanner in pieces and returns what it found, up to the first
// that ends a conversation.
func scan(in []byte, size int) []found {
	var l lines
	var out []found
	for piece := range slices.Chunk(in, size) {
		for len(piece) > 0 {
			what, n := l.next(piece)
			piece = piece[n:]
			if what == nothing {
				continue
			}
			out = append(out, what)
			if what != line {
				return out
			}
		}
	}
	return out
}

// naive has the whole input before it, as a server never does.
func naive(in []byte) []found {
	var out []found
	for {
		content, rest, ended := bytes.Cut(in, []byte("\n"))
		content = bytes.TrimSuffix(content, []byte("\r"))
		switch {
		case len(content) > MaxLine:
			return append(out, tooLong)
		case !ended:
			return out
		case string(content) == quitLine:
			return append(out, quit)
		}
		out, in = append(out, line), rest
	}
}
