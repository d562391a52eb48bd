package message

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// DefaultCeiling is the largest N that a primes job may ask for by default.
const DefaultCeiling = 100_000_000

// maxJob bounds a primes work message, in bytes.
const maxJob = 1 << 10

// Job is a primes work message: compute the first N primes and report the last.
type Job struct {
	ID string // decimal digits
	N  int    // ≥ 1
}

// Encode writes the message: "1|6573".
func (j Job) Encode() []byte { return []byte(j.ID + "|" + strconv.Itoa(j.N)) }

// ParseJob reads "ID|N", both decimal, with 1 ≤ N ≤ ceiling. One line ending is
// forgiven, because people type jobs by hand; nothing else is.
func ParseJob(body []byte, ceiling int) (Job, error) {
	switch {
	case len(body) > maxJob:
		return Job{}, fmt.Errorf("job of %d bytes: the most is %d", len(body), maxJob)
	case !utf8.Valid(body):
		return Job{}, errors.New("job is not UTF-8 text")
	}
	line := bytes.TrimSuffix(bytes.TrimSuffix(body, []byte("\n")), []byte("\r"))
	id, n, ok := bytes.Cut(line, []byte("|"))
	switch {
	case !ok:
		return Job{}, errors.New(`job is not of the form ID|N: it has no "|"`)
	case !digits(id):
		return Job{}, fmt.Errorf("job's ID is %s, not a decimal number", Excerpt(id))
	case !digits(n):
		return Job{}, fmt.Errorf("job's N is %s, not a decimal number", Excerpt(n))
	}
	count, err := strconv.Atoi(string(n))
	if err != nil || count > ceiling {
		return Job{}, fmt.Errorf("job's N is %s, more than the ceiling of %d", Excerpt(n), ceiling)
	}
	if count < 1 {
		return Job{}, errors.New("job's N is 0: the least is 1")
	}
	return Job{ID: string(id), N: count}, nil
}

func digits(b []byte) bool {
	return len(b) > 0 && !bytes.ContainsFunc(b, func(r rune) bool { return r < '0' || r > '9' })
}
