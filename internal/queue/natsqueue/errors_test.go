package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/queue"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err       error
		want      error // nil means that the error stays as it is
		transient bool
	}{
		"missing stream":    {jetstream.ErrStreamNotFound, queue.ErrNotFound, false},
		"missing consumer":  {jetstream.ErrConsumerNotFound, queue.ErrNotFound, false},
		"by the API":        {&jetstream.APIError{Code: 404, ErrorCode: 10059}, queue.ErrNotFound, false},
		"deleted":           {jetstream.ErrConsumerDeleted, queue.ErrNotFound, false},
		"large for broker":  {nats.ErrMaxPayload, queue.ErrTooLarge, false},
		"large for stream":  {&jetstream.APIError{Code: 400, ErrorCode: 10054}, queue.ErrTooLarge, false},
		"forbidden":         {nats.ErrPermissionViolation, queue.ErrDenied, false},
		"closed":            {nats.ErrConnectionClosed, queue.ErrClosed, false},
		"too many":          {&jetstream.APIError{Code: 429}, queue.ErrThrottled, true},
		"stalled":           {jetstream.ErrTooManyStalledMsgs, queue.ErrThrottled, true},
		"no leader":         {&jetstream.APIError{Code: 503, ErrorCode: 10008}, nil, true},
		"disk full":         {&jetstream.APIError{Code: 503, ErrorCode: 10077}, nil, false},
		"bad request":       {&jetstream.APIError{Code: 400, ErrorCode: 10003}, nil, false},
		"nobody there":      {nats.ErrNoResponders, nil, true},
		"disconnected":      {fmt.Errorf("x: %w", nats.ErrDisconnected), nil, true},
		"no time left":      {context.DeadlineExceeded, errNoAnswer, true},
		"not confirmed":     {jetstream.ErrAsyncPublishTimeout, errNoAnswer, true},
		"somebody else's":   {errors.New("x"), nil, false},
		"given up":          {context.Canceled, nil, false},
		"others are served": {errOthersFirst, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := fmt.Errorf("call: %w", tc.err)
			got := classify(err)
			if !errors.Is(got, tc.err) || tc.want != nil && !errors.Is(got, tc.want) {
				t.Errorf("got %v, want it to be %v and %v", got, tc.want, tc.err)
			}
			if tc.want == nil && got != err { //nolint:errorlint // the test wants the identical error
				t.Errorf("got %v, want it as it is", got)
			}
			if got := transient(err); got != tc.transient {
				t.Errorf("got transient %v, want %v", got, tc.transient)
			}
		})
	}
	if err := classify(nil); err != nil {
		t.Errorf("got %v for success", err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"404 No Messages":                   nil,
		"408 Request Timeout":               nil,
		"408 Interest Expired":              nil,
		"408 Requests Pending":              errOthersFirst,
		"409 Message Size Exceeds MaxBytes": errTooBig,
		"409 Consumer Deleted":              jetstream.ErrConsumerDeleted,
		"409 Leadership Change":             errInterrupted,
		"409 Server Shutdown":               errInterrupted,
		"409 Exceeded MaxWaiting":           errInterrupted,
		"503 ":                              nats.ErrNoResponders,
		"299 a status that we do not know":  errInterrupted,
	} {
		code, description, _ := strings.Cut(text, " ")
		m := &nats.Msg{Header: nats.Header{"Status": {code}, "Description": {description}}}
		if got := statusError(m); !errors.Is(got, want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ n, size, want int }{
		"few":                   {3, 100, 3},
		"many":                  {10_000, 100, windowMessages},
		"large":                 {100, windowBytes / 4, 4},
		"larger than a window":  {3, 2 * windowBytes, 1},
		"one that is too large": {1, 2 * windowBytes, 1},
	} {
		msgs := make([]*nats.Msg, tc.n)
		for i := range msgs {
			msgs[i] = &nats.Msg{Data: make([]byte, tc.size)}
		}
		if got := window(msgs); got != tc.want {
			t.Errorf("%s: got %d, want %d", name, got, tc.want)
		}
	}
}

func FuzzOwns(f *testing.F) {
	q := &Queue{name: "jobs"}
	f.Add("$JS.ACK.cloudmaster-jobs.workers.1.2.3.4.5")
	f.Add("$JS.ACK.domain.hash.cloudmaster-jobs.workers.1.2.3.4.5.token")
	f.Add("$JS.API.STREAM.DELETE.cloudmaster-jobs")
	f.Fuzz(func(t *testing.T, receipt string) {
		if q.owns(queue.Receipt(receipt)) && !strings.HasPrefix(receipt, "$JS.ACK.") {
			t.Errorf("%q is taken for a receipt", receipt)
		}
	})
}
