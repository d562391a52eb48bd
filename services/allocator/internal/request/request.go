// Package request asks the controller for a server: one message on a pool's work queue for each client that found none.
//
// A client that asks again within Options.Interval is not counted twice. The table of clients has at most
// Options.Clients entries. While it is full all further clients together count as one, so that a crowd can fill neither
// the memory nor the queue. If a message could not be sent the client is not entered in the table, and its next call
// tries again. The queue is opened at the first request and kept; if it is gone it is opened anew.
//
// Where the work queue cannot tell of messages by itself, a hint is sent (see the package hint).
package request

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cloudmaster/internal/hint"
	"cloudmaster/internal/queue"
)

// Body is the text of each message.
const Body = "startup"

// Defaults of Options.
const (
	DefaultInterval = time.Minute
	DefaultTimeout  = 2 * time.Second
	DefaultClients  = 10_000
)

// Options of a Requester; the zero value works.
type Options struct {
	Interval time.Duration // how long a client is not counted again; 0 means DefaultInterval
	Timeout  time.Duration // how long opening the queue and sending may take; 0 means DefaultTimeout
	Clients  int           // size of the table; 0 means DefaultClients

	Hints *hint.Sender // used if the work queue cannot tell of messages by itself; nil sends none
}

// Outcome says what a request came to.
type Outcome int

// The outcomes of a request.
const (
	Failed Outcome = iota // nothing was sent; the error says why
	Queued                // a message is on the queue
	Recent                // nothing was sent: the client's last message is less than Interval old
)

// String returns the outcome as metrics and answers name it.
func (o Outcome) String() string {
	switch o {
	case Failed:
		return "failed"
	case Queued:
		return "queued"
	case Recent:
		return "recently_queued"
	}
	return "unknown"
}

// Sender is what is needed of a work queue.
type Sender interface {
	Send(ctx context.Context, bodies ...[]byte) error
}

// OpenFunc opens the work queue. It is called again after an error, and may be
// called by several goroutines at once.
type OpenFunc func(ctx context.Context) (Sender, error)

// crowd stands for all clients that the table has no room for.
const crowd = "\x00crowd"

// Requester is safe for concurrent use.
type Requester struct {
	open OpenFunc
	opts Options

	mu     sync.Mutex
	sender Sender               // guarded by mu; nil until opened
	asked  map[string]time.Time // guarded by mu: when each client's interval ends; zero while its message is being sent
	order  []string             // guarded by mu: the clients whose message was sent, oldest first
}

// New returns a Requester that sends to the queue that open opens.
func New(open OpenFunc, opts Options) (*Requester, error) {
	opts.Interval = cmp.Or(opts.Interval, DefaultInterval)
	opts.Timeout = cmp.Or(opts.Timeout, DefaultTimeout)
	opts.Clients = cmp.Or(opts.Clients, DefaultClients)
	if opts.Interval < 0 || opts.Timeout < 0 || opts.Clients < 0 {
		return nil, fmt.Errorf("requests: interval %v, timeout %v and clients %d must be above 0",
			opts.Interval, opts.Timeout, opts.Clients)
	}
	return &Requester{open: open, opts: opts, asked: make(map[string]time.Time)}, nil
}

// Request sends a message for this client unless its last one is less than Options.Interval old. When it returns Queued
// the broker has stored the message. The sending goes on if the client hangs up (ctx ends); only the timeout ends it.
func (r *Requester) Request(ctx context.Context, client string) (Outcome, error) {
	client, ok := r.reserve(client, time.Now())
	if !ok {
		return Recent, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.opts.Timeout)
	defer cancel()
	err := r.send(ctx)
	r.settle(client, time.Now(), err == nil)
	if err != nil {
		return Failed, fmt.Errorf("request a server: %w", err)
	}
	r.hint(ctx)
	return Queued, nil
}

// reserve enters the client in the table and returns the name that it has there. It returns false if the client is
// there already, because its interval is not over or its message is being sent.
func (r *Requester) reserve(client string, now time.Time) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expireLocked(now)
	if _, known := r.asked[client]; !known && len(r.asked) >= r.opts.Clients {
		client = crowd
	}
	if _, known := r.asked[client]; known {
		return "", false
	}
	r.asked[client] = time.Time{}
	return client, true
}

// settle starts the client's interval if its message was sent, and else removes it from the table.
func (r *Requester) settle(client string, now time.Time, sent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !sent {
		delete(r.asked, client)
		return
	}
	r.asked[client] = now.Add(r.opts.Interval)
	r.order = append(r.order, client)
}

// expireLocked drops the clients whose interval is over. All intervals are equally long, so they end in the order in
// which the messages were sent.
func (r *Requester) expireLocked(now time.Time) {
	n := 0
	for n < len(r.order) && !now.Before(r.asked[r.order[n]]) {
		delete(r.asked, r.order[n])
		n++
	}
	r.order = r.order[n:]
}

func (r *Requester) send(ctx context.Context) error {
	sender, err := r.opened(ctx)
	if err != nil {
		return err
	}
	err = sender.Send(ctx, []byte(Body))
	if errors.Is(err, queue.ErrNotFound) || errors.Is(err, queue.ErrClosed) {
		r.drop(sender)
	}
	return err
}

// hint sends a hint if the work queue cannot tell of the message by itself.
func (r *Requester) hint(ctx context.Context) {
	r.mu.Lock()
	sender := r.sender
	r.mu.Unlock()
	if hint.Needed(sender) {
		r.opts.Hints.Stored(ctx)
	}
}

// opened returns the queue. Two callers may open it side by side; it does not matter which handle is kept.
func (r *Requester) opened(ctx context.Context) (Sender, error) {
	r.mu.Lock()
	sender := r.sender
	r.mu.Unlock()
	if sender != nil {
		return sender, nil
	}
	sender, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sender = sender
	return sender, nil
}

func (r *Requester) drop(sender Sender) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sender == sender {
		r.sender = nil
	}
}
