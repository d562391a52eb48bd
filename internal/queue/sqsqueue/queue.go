// Package sqsqueue is the SQS adapter of the queue port. It uses standard queues.
//
// A standard queue delivers each message at least once. If the answer to a send is lost and the SDK
// sends again, the message may be stored twice: here the adapter cannot keep the port's promise
// about retries. Counts are SQS's approximations and may lag by some seconds. Receipts stay valid
// across connections and processes. A Receive that is cancelled may have taken a message whose
// delivery it never sees; the message becomes visible again after its visibility timeout.
package sqsqueue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

var _ queue.Queue = (*Queue)(nil)

const (
	batchEntries = 10 // the most that one call accepts
	// batchBytes keeps a batch below what every queue accepts, with room for attributes.
	batchBytes  = 240 << 10
	longestPoll = 20 * time.Second
	calls       = 4 // how many calls of one method run at the same time
)

// Queue is one SQS queue, opened. Make it with Open or Ensure.
type Queue struct {
	client     *sqs.Client
	name, url  string
	visibility time.Duration
}

// Name implements queue.Queue.
func (q *Queue) Name() string { return q.name }

// Visibility implements queue.Queue.
func (q *Queue) Visibility() time.Duration { return q.visibility }

// Send implements queue.Queue.
func (q *Queue) Send(ctx context.Context, bodies ...[]byte) error {
	var batch []types.SendMessageBatchRequestEntry
	size := 0
	flush := func() error {
		defer func() { batch, size = nil, 0 }()
		return q.sendBatch(ctx, batch)
	}
	for _, body := range bodies {
		text, attrs := encode(body)
		if len(text) > maxMessageBytes {
			return fmt.Errorf("send to %s: %w: %d bytes, SQS takes %d", q.name, queue.ErrTooLarge, len(text),
				maxMessageBytes)
		}
		if len(batch) == batchEntries || len(batch) > 0 && size+len(text) > batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		batch = append(batch, types.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(len(batch))), MessageBody: aws.String(text), MessageAttributes: attrs,
		})
		size += len(text)
	}
	if len(batch) == 0 {
		return ctx.Err()
	}
	return flush()
}

func (q *Queue) sendBatch(ctx context.Context, batch []types.SendMessageBatchRequestEntry) error {
	out, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(q.url), Entries: batch})
	if err != nil {
		return fmt.Errorf("send to %s: %w", q.name, classify(err))
	}
	if err := failed(out.Failed, nil); err != nil {
		return fmt.Errorf("send to %s: %w", q.name, err)
	}
	return nil
}

// Receive implements queue.Queue.
func (q *Queue) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	if most < 1 {
		return nil, fmt.Errorf("receive from %s: at most %d messages: want 1 or more", q.name, most)
	}
	until := time.Now().Add(wait)
	for {
		asked := time.Now()
		got, err := q.receive(ctx, min(most, batchEntries), min(max(0, time.Until(until)), longestPoll))
		switch {
		case err != nil:
			return nil, fmt.Errorf("receive from %s: %w", q.name, err)
		case len(got) == batchEntries && most > batchEntries:
			return append(got, q.more(ctx, most-batchEntries)...), nil
		case len(got) > 0, time.Until(until) < time.Second/2:
			return got, nil
		}
		// SQS was asked to wait but answered at once. Asking again without a pause would be a busy loop.
		if !backoff.Wait(ctx, time.Second-time.Since(asked)) {
			return nil, fmt.Errorf("receive from %s: %w", q.name, context.Cause(ctx))
		}
	}
}

// more receives what can be had without waiting, after a call that returned as many as it could. It
// ignores errors: the next Receive will meet and report them.
func (q *Queue) more(ctx context.Context, most int) []queue.Message {
	var got []queue.Message
	for most > 0 {
		batches := make([][]queue.Message, min(calls, (most+batchEntries-1)/batchEntries))
		var g errgroup.Group
		for i := range batches {
			ask := min(batchEntries, most-i*batchEntries)
			g.Go(func() (err error) {
				batches[i], err = q.receive(ctx, ask, 0)
				return err
			})
		}
		err := g.Wait()
		full := err == nil
		for _, b := range batches {
			got = append(got, b...)
			most -= len(b)
			full = full && len(b) > 0
		}
		if !full {
			break
		}
	}
	return got
}

// receive makes one call. SQS can only wait whole seconds, so that a wait is rounded up to them.
func (q *Queue) receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:            aws.String(q.url),
		MaxNumberOfMessages: int32(most),
		WaitTimeSeconds:     int32((wait + time.Second - 1).Truncate(time.Second) / time.Second),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameSentTimestamp,
			types.MessageSystemAttributeNameSenderId,
		},
		MessageAttributeNames: []string{attrEncoding},
	})
	if err != nil {
		return nil, classify(err)
	}
	msgs := make([]queue.Message, len(out.Messages))
	for i := range out.Messages {
		msgs[i] = message(&out.Messages[i])
	}
	return msgs, nil
}

// message converts a delivery. A body that cannot be decoded is passed on unchanged, and its reader
// will refuse it.
func message(m *types.Message) queue.Message {
	body, err := decode(aws.ToString(m.Body), m.MessageAttributes)
	if err != nil {
		body = []byte(aws.ToString(m.Body))
	}
	// If the attributes are missing, this counts as the first delivery, and the time of sending is 1970.
	received, _ := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	sent, _ := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64)
	return queue.Message{
		ID: aws.ToString(m.MessageId), Body: body, SentAt: time.UnixMilli(sent).UTC(),
		Deliveries: max(1, received), Receipt: queue.Receipt(aws.ToString(m.ReceiptHandle)),
		Sender: senderOf(m.Attributes[string(types.MessageSystemAttributeNameSenderId)]),
	}
}

// senderOf returns the name of the session in which somebody with a role has sent a message; empty if the sender has
// no role. For the role of an EC2 instance it is the instance's id. Source: SQS API Reference, ReceiveMessage,
// SenderId; IAM User Guide, "IAM identifiers": the ids of roles begin with AROA.
func senderOf(id string) string {
	role, session, found := strings.Cut(id, ":")
	if !found || !strings.HasPrefix(role, "AROA") {
		return ""
	}
	return session
}

// Extend implements queue.Queue.
func (q *Queue) Extend(ctx context.Context, receipts ...queue.Receipt) error {
	return q.change(ctx, "extend messages of", receipts, int32(q.visibility/time.Second))
}

// Release implements queue.Queue.
func (q *Queue) Release(ctx context.Context, receipts ...queue.Receipt) error {
	return q.change(ctx, "release messages of", receipts, 0)
}

func (q *Queue) change(ctx context.Context, doing string, receipts []queue.Receipt, timeout int32) error {
	return q.inBatches(ctx, doing, receipts, func(
		ctx context.Context, batch []queue.Receipt,
	) ([]types.BatchResultErrorEntry, error) {
		entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(batch))
		for i, r := range batch {
			entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(strconv.Itoa(i)), ReceiptHandle: aws.String(string(r)), VisibilityTimeout: timeout,
			}
		}
		out, err := q.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{
			QueueUrl: aws.String(q.url), Entries: entries,
		})
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// Delete implements queue.Queue.
func (q *Queue) Delete(ctx context.Context, receipts ...queue.Receipt) error {
	return q.inBatches(ctx, "delete messages of", receipts, func(
		ctx context.Context, batch []queue.Receipt,
	) ([]types.BatchResultErrorEntry, error) {
		entries := make([]types.DeleteMessageBatchRequestEntry, len(batch))
		for i, r := range batch {
			entries[i] = types.DeleteMessageBatchRequestEntry{
				Id: aws.String(strconv.Itoa(i)), ReceiptHandle: aws.String(string(r)),
			}
		}
		out, err := q.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{
			QueueUrl: aws.String(q.url), Entries: entries,
		})
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// inBatches makes calls of a batch operation until all receipts are done, several at the same time.
func (q *Queue) inBatches(ctx context.Context, doing string, receipts []queue.Receipt,
	call func(context.Context, []queue.Receipt) ([]types.BatchResultErrorEntry, error),
) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", doing, q.name, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(calls)
	for start := 0; start < len(receipts); start += batchEntries {
		batch := receipts[start:min(start+batchEntries, len(receipts))]
		g.Go(func() error {
			bad, err := call(ctx, batch)
			if err != nil {
				return classify(err)
			}
			return failed(bad, stale)
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("%s %s: %w", doing, q.name, err)
	}
	return nil
}

// failed returns the errors of a batch's entries, except those that are harmless.
func failed(entries []types.BatchResultErrorEntry, harmless func(code, text string) bool) error {
	var errs []error
	for i := range entries {
		code, text := aws.ToString(entries[i].Code), aws.ToString(entries[i].Message)
		if harmless != nil && harmless(code, text) {
			continue
		}
		errs = append(errs, classify(&smithy.GenericAPIError{Code: code, Message: text}))
	}
	return errors.Join(errs...)
}

// Bury implements queue.Queue.
func (q *Queue) Bury(ctx context.Context, m queue.Message, reason string) error {
	dead := queue.DeadLetters(q.name)
	url, err := find(ctx, q.client, dead)
	if err != nil {
		return fmt.Errorf("bury in %s: %w", dead, err)
	}
	text, attrs := encode(m.Body)
	if attrs == nil {
		attrs = make(map[string]types.MessageAttributeValue)
	}
	// SQS refuses an attribute without text.
	if why := fit(reason, maxMessageBytes-len(text)-attrsBytes); why != "" {
		attrs[attrReason] = attribute(why)
	}
	_, err = q.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: aws.String(url), MessageBody: aws.String(text), MessageAttributes: attrs,
	})
	if err != nil {
		return fmt.Errorf("bury in %s: %w", dead, classify(err))
	}
	return q.Delete(ctx, m.Receipt)
}

// Backlog implements queue.Queue. The two counts come from one call.
func (q *Queue) Backlog(ctx context.Context) (pool.Backlog, error) {
	visible := types.QueueAttributeNameApproximateNumberOfMessages
	inFlight := types.QueueAttributeNameApproximateNumberOfMessagesNotVisible
	out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(q.url), AttributeNames: []types.QueueAttributeName{visible, inFlight},
	})
	if err != nil {
		return pool.Backlog{}, fmt.Errorf("count %s: %w", q.name, classify(err))
	}
	b := pool.Backlog{Known: true}
	for _, c := range []struct {
		name types.QueueAttributeName
		into *int
	}{{visible, &b.Visible}, {inFlight, &b.InFlight}} {
		if *c.into, err = strconv.Atoi(out.Attributes[string(c.name)]); err != nil {
			return pool.Backlog{}, fmt.Errorf("count %s: %s: %w", q.name, c.name, err)
		}
	}
	return b, nil
}
