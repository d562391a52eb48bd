package sqs

import (
	"regexp"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iampolicy"
)

type batchInput[T any] struct {
	QueueURL string
	Entries  []T
}

// failure is an entry of a batch that failed.
type failure struct {
	ID            string `json:"Id"`
	Code, Message string
	SenderFault   bool
}

// batchOutput is what became of each entry.
type batchOutput struct {
	Successful []any
	Failed     []failure
}

var entryForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// batch does an action for each entry. Those that fail do not keep the others from being done.
func batch[T any](r *request, action string, name func(*T) string, work func(*queue, *T) (any, *fault)) (any, *fault) {
	in, bad := read[batchInput[T]](r)
	if bad != nil {
		return nil, bad
	}
	seen := make(map[string]bool)
	for i := range in.Entries {
		entry := name(&in.Entries[i])
		switch {
		case !entryForm.MatchString(entry):
			return nil, batchFault("InvalidBatchEntryId", "an entry has the id %q", entry)
		case seen[entry]:
			return nil, batchFault("BatchEntryIdsNotDistinct", "Id %s repeated.", entry)
		}
		seen[entry] = true
	}
	switch n := len(in.Entries); {
	case n == 0:
		return nil, batchFault("EmptyBatchRequest", "There should be at least one entry in the request.")
	case n > mostMessages:
		return nil, batchFault("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. "+
			"You have sent %d.", n)
	}
	return r.with(action, in.QueueURL, func(q *queue) (any, *fault) {
		out := batchOutput{Successful: []any{}, Failed: []failure{}}
		for i := range in.Entries {
			entry := &in.Entries[i]
			done, bad := any(nil), r.s.failingEntryLocked(r.op)
			if bad == nil {
				done, bad = work(q, entry)
			}
			if bad != nil {
				out.Failed = append(out.Failed, failure{
					ID: name(entry), Code: bad.Code, Message: bad.Message, SenderFault: bad.Status < 500,
				})
				continue
			}
			out.Successful = append(out.Successful, done)
		}
		return out, nil
	})
}

func batchFault(shape, format string, args ...any) *fault {
	return faultf(shape, "AWS.SimpleQueueService."+shape, format, args...)
}

func sendBatch(r *request) (any, *fault) {
	in, bad := read[batchInput[sendInput]](r)
	if bad != nil {
		return nil, bad
	}
	total := 0
	for i := range in.Entries {
		total += in.Entries[i].size()
	}
	const most = 1 << 20
	if total > most {
		return nil, batchFault("BatchRequestTooLong", "Batch requests cannot be longer than %d bytes. "+
			"You have sent %d bytes.", most, total)
	}
	return batch(r, "SendMessage", func(in *sendInput) string { return in.ID },
		func(q *queue, in *sendInput) (any, *fault) { return q.send(r.Principal.UserID, in) })
}

func deleteBatch(r *request) (any, *fault) {
	return batch(r, "DeleteMessage", (*handleInput).name, func(q *queue, in *handleInput) (any, *fault) {
		return map[string]string{"Id": in.ID}, q.end(in)
	})
}

func changeBatch(r *request) (any, *fault) {
	return batch(r, "ChangeMessageVisibility", (*handleInput).name, func(q *queue, in *handleInput) (any, *fault) {
		return map[string]string{"Id": in.ID}, q.change(in)
	})
}

func (in *handleInput) name() string { return in.ID }

// Deliver puts a message into a queue for a service of AWS, such as events.amazonaws.com, if the queue's policy lets
// it. source is the ARN of what makes the service send, which the policy sees as aws:SourceArn.
func (s *Service) Deliver(service, source, queueARN, body string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.atLocked(queueARN)
	if q == nil {
		return missing().Error
	}
	decision, err := iampolicy.Evaluate(&iampolicy.Policies{Resource: q.policy}, &iampolicy.Request{
		Action: "sqs:SendMessage", Resource: queueARN, Principal: iampolicy.Principal{Service: service},
		Context: map[string][]string{"aws:SourceArn": {source}, "aws:SourceAccount": {q.where.account}},
	})
	if err != nil {
		return err
	}
	if !decision.Allowed {
		return call.Errorf("AccessDenied", "%s may not send to %s %s", service, queueARN, decision.Why)
	}
	if _, bad := q.send(service, &sendInput{MessageBody: body}); bad != nil {
		return bad.Error
	}
	return nil
}
