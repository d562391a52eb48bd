package feed

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"

	"cloudmaster/internal/sample/primesjob"
)

// Random gives jobs of random size. The same seed gives the same jobs.
type Random struct {
	count, next, most int
	random            *rand.Rand
}

// NewRandom returns a source of count jobs with ids from first on, each with an N from 1 to most.
func NewRandom(count, first, most int, seed uint64) *Random {
	return &Random{count: count, next: first, most: most, random: rand.New(rand.NewPCG(seed, 0))}
}

// Next implements Source.
func (r *Random) Next(_ context.Context, most int) ([]primesjob.Job, error) {
	jobs := make([]primesjob.Job, min(most, r.count))
	for i := range jobs {
		jobs[i] = primesjob.Job{ID: strconv.Itoa(r.next), N: 1 + r.random.IntN(r.most)}
		r.next++
	}
	r.count -= len(jobs)
	return jobs, nil
}

// List gives the jobs it is made of.
type List struct{ jobs []primesjob.Job }

// NewList returns a source of the given jobs.
func NewList(jobs []primesjob.Job) *List { return &List{jobs: jobs} }

// Next implements Source.
func (l *List) Next(_ context.Context, most int) ([]primesjob.Job, error) {
	n := min(most, len(l.jobs))
	jobs := l.jobs[:n]
	l.jobs = l.jobs[n:]
	return jobs, nil
}

// longestLine is longer than any job. It bounds the memory that a file without line ends takes.
const longestLine = 4 << 10

// Lines reads jobs, one on each line. It goes on after lines that are not jobs, and skips blank ones.
type Lines struct {
	name    string
	ceiling int
	refuse  func(error)
	in      *bufio.Reader
	line    int
	err     error // why reading ended
}

// NewLines returns a source of the jobs in r with an N up to ceiling. What is wrong
// with a line is told to refuse, as "name:line: reason".
func NewLines(name string, r io.Reader, ceiling int, refuse func(error)) *Lines {
	return &Lines{name: name, ceiling: ceiling, refuse: refuse, in: bufio.NewReaderSize(r, longestLine)}
}

// lines is what one read brings.
type lines struct {
	jobs    []primesjob.Job
	refused []error
}

// Next implements Source. It returns when ctx ends, even while a read waits for a terminal or a pipe. Such a read
// cannot be interrupted, so its goroutine ends only when the read does, and the source must not be used any more.
func (l *Lines) Next(ctx context.Context, most int) ([]primesjob.Job, error) {
	for l.err == nil {
		done := make(chan lines, 1)
		go func() { done <- l.read(most) }()
		var got lines
		select {
		case got = <-done:
		case <-ctx.Done():
			return nil, fmt.Errorf("read jobs from %s: %w", l.name, context.Cause(ctx))
		}
		for _, err := range got.refused {
			l.refuse(err)
		}
		if len(got.jobs) > 0 {
			return got.jobs, nil
		}
	}
	if errors.Is(l.err, io.EOF) {
		return nil, nil
	}
	return nil, fmt.Errorf("read jobs from %s: %w", l.name, l.err)
}

// read reads lines until it has enough jobs, or would have to wait for more.
func (l *Lines) read(most int) (got lines) {
	for len(got.jobs) < most && l.err == nil {
		line, whole := l.readLine()
		switch job, err := primesjob.Parse(line, l.ceiling); {
		case len(bytes.TrimSpace(line)) == 0:
		case !whole:
			got.refused = append(got.refused,
				fmt.Errorf("%s:%d: line is longer than %d bytes", l.name, l.line, longestLine))
		case err != nil:
			got.refused = append(got.refused, fmt.Errorf("%s:%d: %w", l.name, l.line, err))
		default:
			got.jobs = append(got.jobs, job)
		}
		if l.in.Buffered() == 0 {
			break // somebody may be typing: do not wait for the next line before these jobs are sent
		}
	}
	return got
}

// readLine returns the next line, or only the beginning of one that is too long. The end of the input, or an error, is
// kept in l.err. The line is valid until the next call.
func (l *Lines) readLine() (line []byte, whole bool) {
	l.line++
	line, l.err = l.in.ReadSlice('\n')
	if !errors.Is(l.err, bufio.ErrBufferFull) {
		return line, true
	}
	line = bytes.Clone(line)
	for errors.Is(l.err, bufio.ErrBufferFull) {
		_, l.err = l.in.ReadSlice('\n')
	}
	return line, false
}
