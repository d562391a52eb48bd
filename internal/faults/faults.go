// Package faults lets the in-memory adapters fail when a test wants it: before a call takes effect, or after it has
// taken effect, as when only the answer is lost.
package faults

import "sync"

// Op names a call; Any is all of them.
type Op string

// Any matches every call.
const Any Op = ""

// Set is the list of the faults that are still to happen; the zero value has none. The in-memory adapters embed it.
type Set struct {
	mu    sync.Mutex
	rules []*rule // the first that matches decides; guarded by mu
}

type rule struct {
	op     Op
	skip   int  // calls that it lets pass first
	times  int  // calls that it hits; negative: all that follow
	effect bool // the call takes effect before it fails
	err    error
}

// NextError makes the next call of op fail with err and without effect. Used n times, it makes the next n calls fail.
func (s *Set) NextError(op Op, err error) { s.add(&rule{op: op, times: 1, err: err}) }

// NextLost makes the next call of op take effect and then fail with err.
func (s *Set) NextLost(op Op, err error) { s.add(&rule{op: op, times: 1, err: err, effect: true}) }

// FailAfter lets n calls of op pass and makes all later ones fail with err, until Heal.
func (s *Set) FailAfter(op Op, n int, err error) {
	s.add(&rule{op: op, skip: n, times: -1, err: err})
}

// Heal removes all faults.
func (s *Set) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
}

func (s *Set) add(r *rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, r)
}

// Take counts one call of op and returns the error with which the call must fail before, or after, it takes effect.
// Adapters call it; tests use the other methods.
func (s *Set) Take(op Op) (before, after error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rules {
		switch {
		case r.op != Any && r.op != op, r.times == 0:
			continue
		case r.skip > 0:
			r.skip--
			continue
		}
		r.times--
		if r.effect {
			return nil, r.err
		}
		return r.err, nil
	}
	return nil, nil
}
