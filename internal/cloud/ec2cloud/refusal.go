package ec2cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cloudmaster/internal/cloud"
)

// refusals are why the choices of a launch were refused.
type refusals struct {
	list []refusal
}

type refusal struct {
	choice choice
	err    error
}

// mostWrong is how many choices of one market a launch may find to be refused as wrong. More of them have a cause in
// common, and each request is paid for with the rate at which all pools launch.
const mostWrong = 4

// skips reports whether a try need not be made: its choice was refused as wrong, or too many others of its
// market were. The next launch begins with those that were left out.
func (r *refusals) skips(t *try) bool {
	wrong := 0
	for _, one := range r.list {
		if errors.Is(one.err, cloud.ErrCapacity) {
			continue
		}
		if one.choice == t.choice {
			return true
		}
		if one.choice.spot == t.spot {
			wrong++
		}
	}
	return wrong >= mostWrong
}

// add notes why a choice was refused. Of several reasons the first counts.
func (r *refusals) add(c choice, err error) {
	for i := range r.list {
		if r.list[i].choice == c {
			return
		}
	}
	r.list = append(r.list, refusal{choice: c, err: err})
}

// err returns the refusals as one error. If one of them can be mended by people, and the others are for want of
// capacity, that one is what the error is. Nil if there are none.
func (r *refusals) err() error {
	var first error
	var texts []string
	same := true // the fault is not one of the choices
	for _, one := range r.list {
		texts = append(texts, fmt.Sprintf("%s: %v", one.choice, one.err))
		same = same && one.err.Error() == r.list[0].err.Error()
		if first == nil || errors.Is(first, cloud.ErrCapacity) && !errors.Is(one.err, cloud.ErrCapacity) {
			first = one.err
		}
	}
	if same {
		return first
	}
	return &refusedError{text: strings.Join(texts, "; "), is: first}
}

// refusedError says why each choice was refused.
type refusedError struct {
	text string
	is   error
}

// Error implements error.
func (e *refusedError) Error() string { return e.text }

// Unwrap returns the refusal that counts.
func (e *refusedError) Unwrap() error { return e.is }

// complain warns, once, of choices that were refused as wrong in a launch for which another one served.
func (c *Cloud) complain(ctx context.Context, no *refusals) {
	for _, one := range no.list {
		if errors.Is(one.err, cloud.ErrCapacity) {
			continue
		}
		c.mu.Lock()
		told := c.faults[one.choice.place()]
		c.faults[one.choice.place()] = true
		c.mu.Unlock()
		if !told {
			c.log.WarnContext(ctx, "EC2 refuses a choice of the configuration; the others are used",
				"choice", one.choice.String(), "error", one.err)
		}
	}
}

// wrong notes that a choice was refused as wrong, which nobody has been told yet if it is news.
func (c *Cloud) wrong(what choice) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.faults[what.place()]; !known {
		c.faults[what.place()] = false
	}
}

// rightFirst puts the tries last whose choices were refused as wrong the last time.
func (c *Cloud) rightFirst(all []try) []try {
	c.mu.Lock()
	defer c.mu.Unlock()
	var right, wrong []try
	for _, t := range all {
		if _, known := c.faults[t.place()]; known {
			wrong = append(wrong, t)
		} else {
			right = append(right, t)
		}
	}
	return append(right, wrong...)
}
