// Package primesjob holds the work messages of the primes sample: feed-primes writes them and primes-worker
// reads them. The core knows nothing of them; to the controller a job is one message on a queue.
//
// The format is described in docs/formats.md.
package primesjob

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"cloudmaster/internal/message"
)

// DefaultCeiling is the largest N that a job may ask for by default.
const DefaultCeiling = 100_000_000

// maxSize bounds a job's message, in bytes.
const maxSize = 1 << 10

// Job asks a worker to compute the first N primes and to report the last of them.
type Job struct {
	ID string // decimal digits
	N  int    // ≥ 1
}

// Encode writes the message: "1|6573".
func (j Job) Encode() []byte { return []byte(j.ID + "|" + strconv.Itoa(j.N)) }

// Parse reads "ID|N", both decimal, with 1 ≤ N ≤ ceiling. One line ending after N is accepted, because people
// type jobs by hand; any other deviation is an error.
func Parse(body []byte, ceiling int) (Job, error) {
	switch {
	case len(body) > maxSize:
		return Job{}, fmt.Errorf("job of %d bytes: the most is %d", len(body), maxSize)
	case !utf8.Valid(body):
		return Job{}, errors.New("job is not UTF-8 text")
	}
	line := bytes.TrimSuffix(bytes.TrimSuffix(body, []byte("\n")), []byte("\r"))
	id, n, ok := bytes.Cut(line, []byte("|"))
	switch {
	case !ok:
		return Job{}, errors.New(`job is not of the form ID|N: it has no "|"`)
	case !digits(id):
		return Job{}, fmt.Errorf("job's ID is %s, not a decimal number", message.Excerpt(id))
	case !digits(n):
		return Job{}, fmt.Errorf("job's N is %s, not a decimal number", message.Excerpt(n))
	}
	count, err := strconv.Atoi(string(n))
	if err != nil || count > ceiling {
		return Job{}, fmt.Errorf("job's N is %s, more than the ceiling of %d", message.Excerpt(n), ceiling)
	}
	if count < 1 {
		return Job{}, errors.New("job's N is 0: the least is 1")
	}
	return Job{ID: string(id), N: count}, nil
}

func digits(b []byte) bool {
	return len(b) > 0 && !bytes.ContainsFunc(b, func(r rune) bool { return r < '0' || r > '9' })
}
