package sqs

import (
	"net/http"
	"time"

	"cloudmaster/integration/aws/call"
)

// faults are what goes wrong next. The service's lock guards them.
type faults struct {
	fail         map[string][]*fault // by operation, in order
	entries      map[string]int      // by operation, how many entries of batches fail
	lost         map[string]int      // by operation, how many answers get lost
	doubles      int
	redeliveries int
	emptyPolls   int
	lag          time.Duration
}

// Fail makes the next n calls of an operation fail with an error code, such as RequestThrottled.
func (s *Service) Fail(op, code string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.fail == nil {
		s.faults.fail = make(map[string][]*fault)
	}
	for range n {
		s.faults.fail[op] = append(s.faults.fail[op], faultf(code, code, "a fault that a test asked for"))
	}
}

// FailEntries makes the next n entries of an operation's batches fail inside SQS.
func (s *Service) FailEntries(op string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.entries == nil {
		s.faults.entries = make(map[string]int)
	}
	s.faults.entries[op] += n
}

// LoseAnswers carries out the next n calls of an operation, and cuts the connection instead of answering.
func (s *Service) LoseAnswers(op string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.lost == nil {
		s.faults.lost = make(map[string]int)
	}
	s.faults.lost[op] += n
}

// Double stores the next n messages twice, under one id, as a standard queue rarely does.
func (s *Service) Double(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.doubles += n
}

// Redeliver leaves the next n messages visible although they were received.
func (s *Service) Redeliver(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.redeliveries += n
}

// EmptyPolls makes the next n receives without waiting find nothing, as if they had asked servers that have no message.
func (s *Service) EmptyPolls(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.emptyPolls += n
}

// LagCounts makes the approximate numbers up to this much out of date.
func (s *Service) LagCounts(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.lag = by
}

func (s *Service) failing(op string) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.faults.fail[op]
	if len(next) == 0 {
		return nil
	}
	s.faults.fail[op] = next[1:]
	return next[0]
}

func (s *Service) failingEntryLocked(op string) *fault {
	if s.faults.entries[op] == 0 {
		return nil
	}
	s.faults.entries[op]--
	return &fault{Error: &call.Error{
		Status: http.StatusInternalServerError, Code: "InternalError", Message: "a fault that a test asked for",
	}}
}

func (s *Service) losesAnswer(op string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.lost[op] == 0 {
		return false
	}
	s.faults.lost[op]--
	return true
}
