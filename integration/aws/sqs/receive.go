package sqs

import (
	"slices"
	"time"
)

type receiveInput struct {
	QueueURL                    string
	MaxNumberOfMessages         *int
	VisibilityTimeout           *int
	WaitTimeSeconds             *int
	AttributeNames              []string
	MessageSystemAttributeNames []string
	MessageAttributeNames       []string
}

// delivery is a message as a receiver gets it.
type delivery struct {
	MessageID                      string `json:"MessageId"`
	ReceiptHandle, MD5OfBody, Body string
	Attributes                     map[string]string    `json:",omitempty"`
	MessageAttributes              map[string]attribute `json:",omitempty"`
	MD5OfMessageAttributes         string               `json:",omitempty"`
}

const (
	mostMessages = 10
	mostWait     = 20 * time.Second
	mostInFlight = 120_000
	mostTimeout  = 12 * time.Hour
)

// receiveMessage waits for messages by real time, not by the service's clock: the client's own deadline is real, too.
func receiveMessage(r *request) (any, *fault) {
	in, bad := read[receiveInput](r)
	if bad != nil {
		return nil, bad
	}
	where, bad := r.named(in.QueueURL)
	if bad == nil {
		bad = r.ask("ReceiveMessage", where, nil)
	}
	if bad == nil {
		bad = in.check()
	}
	if bad != nil {
		return nil, bad
	}
	var until time.Time
	for {
		got, wait, next, bad := r.s.receive(where, &in)
		switch {
		case bad != nil:
			return nil, bad
		case until.IsZero():
			until = time.Now().Add(wait)
		}
		if len(got) > 0 || !time.Now().Before(until) || !r.pause(next, time.Until(until)) {
			return map[string]any{"Messages": got}, nil
		}
	}
}

func (in *receiveInput) check() *fault {
	switch {
	case in.MaxNumberOfMessages != nil && (*in.MaxNumberOfMessages < 1 || *in.MaxNumberOfMessages > mostMessages):
		return invalid("Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if "+
			"provided.", *in.MaxNumberOfMessages)
	case in.WaitTimeSeconds != nil && (*in.WaitTimeSeconds < 0 || *in.WaitTimeSeconds > int(mostWait.Seconds())):
		return invalid("Value %d for parameter WaitTimeSeconds is invalid. "+
			"Reason: Must be >= 0 and <= 20, if provided.", *in.WaitTimeSeconds)
	}
	return nil
}

// wakes says what a receiver waits for: a change, or the time when a message becomes visible.
type wakes struct {
	changed <-chan struct{}
	in      time.Duration // 0 if no message will
}

// pause waits, and returns false if the client has gone.
func (r *request) pause(next wakes, most time.Duration) bool {
	if next.in > 0 {
		most = min(most, next.in)
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-r.done:
		return false
	case <-next.changed:
	case <-timer.C:
	}
	return true
}

// receive takes what there is.
func (s *Service) receive(where id, in *receiveInput) (got []delivery, wait time.Duration, next wakes, bad *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[where]
	if q == nil {
		return nil, 0, next, missing()
	}
	q.settleLocked()
	wait = seconds(in.WaitTimeSeconds, q.seconds("ReceiveMessageWaitTimeSeconds"))
	next.changed = s.changed
	if wait == 0 && s.faults.emptyPolls > 0 {
		s.faults.emptyPolls--
		return nil, 0, next, nil
	}
	now, most := s.nowLocked(), 1
	if in.MaxNumberOfMessages != nil {
		most = *in.MaxNumberOfMessages
	}
	dead, limit := q.redriveTo()
	for _, m := range slices.Clone(q.messages) {
		switch {
		case now.Before(m.visible):
			if left := m.visible.Sub(now); next.in == 0 || left < next.in {
				next.in = left
			}
		case len(got) == most:
		case dead != nil && m.received >= limit:
			q.bury(m, dead)
		case q.approximateInFlight(now) >= mostInFlight:
			return nil, 0, next, faultf("OverLimit", "OverLimit", "more than %d messages are in flight", mostInFlight)
		default:
			got = append(got, q.deliver(m, in, now))
		}
	}
	return got, wait, next, nil
}

func (q *queue) approximateInFlight(now time.Time) int {
	if len(q.messages) < mostInFlight {
		return 0 // so many cannot be in flight, and counting them for each message would be slow
	}
	n := 0
	for _, m := range q.messages {
		if m.inFlight(now) {
			n++
		}
	}
	return n
}

// bury moves a message to the dead letters. It keeps the time when it was sent first.
func (q *queue) bury(m *message, dead *queue) {
	q.messages = slices.DeleteFunc(q.messages, func(o *message) bool { return o == m })
	m.receipt = ""
	dead.messages = append(dead.messages, m)
	dead.s.wakeLocked()
}

func (q *queue) deliver(m *message, in *receiveInput, now time.Time) delivery {
	m.received++
	m.receipt, m.taken = receiptOf(m.id, m.received), now
	m.visible = now.Add(seconds(in.VisibilityTimeout, q.seconds("VisibilityTimeout")))
	if m.first.IsZero() {
		m.first = now
	}
	if q.s.faults.redeliveries > 0 {
		q.s.faults.redeliveries--
		m.visible = now
	}
	d := delivery{MessageID: m.id, ReceiptHandle: m.receipt, MD5OfBody: sum([]byte(m.body)), Body: m.body}
	d.Attributes = wanted(m.system(), slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames))
	d.MessageAttributes = wanted(m.attrs, in.MessageAttributeNames)
	d.MD5OfMessageAttributes = sumOf(d.MessageAttributes)
	return d
}

// wanted are the attributes that a receiver has asked for.
func wanted[T any](all map[string]T, names []string) map[string]T {
	out := make(map[string]T)
	for name, value := range all {
		if slices.ContainsFunc(names, func(n string) bool { return n == "All" || n == ".*" || n == name }) {
			out[name] = value
		}
	}
	return out
}

func seconds(given *int, otherwise time.Duration) time.Duration {
	if given == nil {
		return otherwise
	}
	return time.Duration(*given) * time.Second
}

type handleInput struct {
	ID                string
	QueueURL          string
	ReceiptHandle     string
	VisibilityTimeout *int
}

func deleteMessage(r *request) (any, *fault) {
	in, bad := read[handleInput](r)
	if bad != nil {
		return nil, bad
	}
	return r.with("DeleteMessage", in.QueueURL, func(q *queue) (any, *fault) { return struct{}{}, q.end(&in) })
}

func changeVisibility(r *request) (any, *fault) {
	in, bad := read[handleInput](r)
	if bad != nil {
		return nil, bad
	}
	return r.with("ChangeMessageVisibility", in.QueueURL, func(q *queue) (any, *fault) {
		return struct{}{}, q.change(&in)
	})
}

// holder finds the message whose last delivery has a handle; nil if it was deleted or delivered again.
func (q *queue) holder(handle string) (*message, *fault) {
	if _, ok := ofReceipt(handle); !ok {
		return nil, faultf("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid",
			"The input receipt handle %q is not a valid receipt handle.", handle)
	}
	i := slices.IndexFunc(q.messages, func(m *message) bool { return m.receipt == handle })
	if i < 0 {
		return nil, nil
	}
	return q.messages[i], nil
}

// end deletes a message. To delete what is gone, or was delivered again, is no error and does nothing.
func (q *queue) end(in *handleInput) *fault {
	m, bad := q.holder(in.ReceiptHandle)
	if m != nil {
		q.messages = slices.DeleteFunc(q.messages, func(o *message) bool { return o == m })
	}
	return bad
}

// change sets a visibility timeout anew, from now on.
func (q *queue) change(in *handleInput) *fault {
	m, bad := q.holder(in.ReceiptHandle)
	now := q.s.nowLocked()
	switch {
	case bad != nil:
		return bad
	case m == nil:
		return invalid("Value %s for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not "+
			"available for visibility timeout change.", in.ReceiptHandle)
	case !m.inFlight(now):
		return faultf("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight",
			"The specified message isn't in flight.")
	case in.VisibilityTimeout == nil || *in.VisibilityTimeout < 0 || *in.VisibilityTimeout > int(mostTimeout.Seconds()):
		return invalid("VisibilityTimeout must be 0 to 43200")
	}
	until := now.Add(seconds(in.VisibilityTimeout, 0))
	if until.Sub(m.taken) > mostTimeout {
		return invalid("Value %d for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the "+
			"message is beyond the limit [43200 seconds].", *in.VisibilityTimeout)
	}
	m.visible = until
	q.s.wakeLocked()
	return nil
}
