// Package bearer reads the tokens (RFC 6750) by which a client shows that it may ask: those that a server takes, from a
// file that is read again when it changes, and the one that a client sends.
//
// A file has one token in each line. All are valid at the server, so that a token can be replaced without a moment in
// which clients are refused: add the new one to the server's file, give it to the clients, remove the old one. A client
// sends the first.
package bearer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// MaxFile is how large a file of tokens may be, in bytes.
	MaxFile = 64 << 10
	// MaxTokens is how many tokens a file may have. Each is compared with what a client sends.
	MaxTokens = 100
	// leastToken is how many characters a token has at least, so that it cannot be guessed.
	leastToken = 16
	// look is how often the file is looked at, at most.
	look = time.Second
	// settled is how old a change is before the file is read. Until then somebody may still be writing it.
	settled = time.Second
)

// shape is what a token may be made of (RFC 6750, section 2.1).
var shape = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// Read returns the tokens of a file, at least one. Other users must not be able to read it.
func Read(file string) ([]string, error) {
	info, err := os.Stat(file) // before it is opened, which would wait for whoever writes into a pipe
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: write a token into it, for example with openssl rand -hex 32", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file: name the file with the tokens", file)
	case info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("%s can be read by others (mode %#o): write new tokens into it, because they may have "+
			"read these, and chmod 600 it", file, info.Mode().Perm())
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%s has more than %d bytes: is it the file with the tokens, one in each line?", file,
			MaxFile)
	}
	return parse(file, string(text))
}

// parse never shows a token in an error.
func parse(file, text string) ([]string, error) {
	var out []string
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			continue
		case !shape.MatchString(line):
			return nil, fmt.Errorf("%s:%d: is no token: one has letters, digits and - . _ ~ + /", file, number)
		case len(line) < leastToken:
			return nil, fmt.Errorf("%s:%d: a token of %d characters can be guessed: use %d or more, for example those "+
				"of openssl rand -hex 32", file, number, len(line), leastToken)
		}
		out = append(out, line)
	}
	switch {
	case len(out) == 0:
		return nil, fmt.Errorf("%s has no token: write one into it, for example with openssl rand -hex 32", file)
	case len(out) > MaxTokens:
		return nil, fmt.Errorf("%s has %d tokens: %d are the most", file, len(out), MaxTokens)
	}
	return out, nil
}

// Tokens are those that a server takes. Make them with Open. They may be used concurrently.
type Tokens struct {
	file string
	log  *slog.Logger

	mu     sync.Mutex
	sums   [][sha256.Size]byte // guarded by mu
	seen   os.FileInfo         // guarded by mu; as the file was when it was read last
	looked time.Time           // guarded by mu
	newest os.FileInfo         // guarded by mu; as the file was at the last look, if it has not been read since
}

// Open reads a file of tokens. A nil log discards.
func Open(file string, log *slog.Logger) (*Tokens, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	info, err := os.Stat(file) // before it is read: a change in between is seen later
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	tokens, err := Read(file)
	if err != nil {
		return nil, err
	}
	return &Tokens{file: file, log: log, sums: sums(tokens), seen: info, looked: time.Now()}, nil
}

func sums(tokens []string) [][sha256.Size]byte {
	out := make([][sha256.Size]byte, len(tokens))
	for i, t := range tokens {
		out[i] = sha256.Sum256([]byte(t))
	}
	return out
}

// Valid reports whether this is one of the tokens. How long it takes does not depend on how much of one is right. A
// change of the file counts when the file has stayed as it is for a second, which is two seconds after it at most:
// what is half written would lock clients out, and may be the beginning of a token. If the file cannot be used then,
// the last tokens stay valid, and the log has why.
func (t *Tokens) Valid(token string) bool {
	sum, found := sha256.Sum256([]byte(token)), 0
	for _, want := range t.current(time.Now()) {
		found |= subtle.ConstantTimeCompare(sum[:], want[:])
	}
	return found == 1
}

func (t *Tokens) current(now time.Time) [][sha256.Size]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.looked) < look { // by the monotonic clock, so that it does not matter if the other one is set
		return t.sums
	}
	t.looked = now
	info, err := os.Stat(t.file)
	if err == nil && same(info, t.seen) || err != nil && t.seen == nil {
		return t.sums
	}
	if err == nil && !t.settledLocked(info) {
		return t.sums
	}
	t.seen, t.newest = info, nil
	tokens, err := Read(t.file)
	if err != nil {
		t.log.WarnContext(context.Background(), "tokens cannot be read again; the last ones stay valid", "error", err)
		return t.sums
	}
	t.sums = sums(tokens)
	t.log.InfoContext(context.Background(), "tokens were read again", "file", t.file, "tokens", len(tokens))
	return t.sums
}

// settledLocked reports whether a file that has changed is as it was at the look before, or was written long enough
// ago.
// Both are needed: a server without clients does not look, and the file's time may be of another machine's clock.
func (t *Tokens) settledLocked(info os.FileInfo) bool {
	before := t.newest
	t.newest = info
	return same(info, before) || time.Since(info.ModTime()) >= settled
}

func same(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() &&
		a.Mode() == b.Mode()
}
