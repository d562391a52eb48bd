// Package orders brings the orders of operators to a pool's policy, and stores what the policy must remember
// of them. An order counts once: it is deleted from its queue only after its effect has been stored, and if
// it is delivered again after that, it is recognised by its id.
package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/record"
)

// Queue is the queue that orders come in.
type Queue interface {
	Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error)
	Delete(ctx context.Context, receipts ...queue.Receipt) error
	Release(ctx context.Context, receipts ...queue.Receipt) error
}

// Store is where the policy's memory is kept.
type Store interface {
	Get(ctx context.Context, key string, have blob.Version) (blob.Object, error)
	Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error)
}

const (
	// batch is how many orders one look takes.
	batch = 10
	// LongWait is how long a look waits for orders: SQS's longest poll.
	LongWait = 20 * time.Second
	// slack is how much longer than its wait a look may take before it counts as failed.
	slack = 10 * time.Second
	// callTimeout bounds how long a pass waits for the store or the queue.
	callTimeout = 5 * time.Second
	// mostApplied is how many applied orders are remembered, and so how many can be carried out at a time.
	mostApplied = 100
)

// Key returns the key of what a pool's policy remembers.
func Key(name pool.Name) string { return "controller/policy/" + string(name) }

// doc is the content of the object in the store.
type doc struct {
	Memory  json.RawMessage `json:"memory"`
	Applied []string        `json:"applied"` // ids of orders, oldest first
	// SetAt is when the newest applied order was sent that sets the number. An order that was sent before it, and
	// comes later, has been overtaken: it would undo a newer one.
	SetAt time.Time `json:"set_at,omitzero"`
}

// id tells an order from all others. The ids of messages alone do not: those of a queue that was made anew may
// begin again.
func id(m *queue.Message) string { return m.ID + "@" + m.SentAt.UTC().Format(time.RFC3339Nano) }

// Book keeps the orders of one pool. Step is called by one goroutine, everything else by another.
type Book struct {
	pool  pool.Name
	queue Queue
	store Store
	wait  time.Duration

	mu       sync.Mutex
	known    bool                     // the store has been read; guarded by mu
	version  blob.Version             // guarded by mu
	doc      doc                      // guarded by mu
	pending  []pool.Order             // in the order in which they were sent; guarded by mu
	receipts map[string]queue.Receipt // of pending ones and of applied ones to be deleted, by id; guarded by mu
	dropped  []pool.Order             // overtaken ones that nobody has been told of yet; guarded by mu
}

// New returns the book of a pool. A look at the queue waits for orders for the time wait; 0 means LongWait.
func New(name pool.Name, q Queue, s Store, wait time.Duration) *Book {
	if wait == 0 {
		wait = LongWait
	}
	return &Book{pool: name, queue: q, store: s, wait: wait, receipts: make(map[string]queue.Receipt)}
}

// Load reads, once, what the policy remembers.
func (b *Book) Load(ctx context.Context) error {
	b.mu.Lock()
	known := b.known
	b.mu.Unlock()
	if known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o, err := b.store.Get(ctx, Key(b.pool), "")
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("read what the policy remembers: %w", err)
	}
	var d doc
	if err == nil {
		if err := json.Unmarshal(o.Data, &d); err != nil { // the policy refuses it, and says what helps
			d = doc{Memory: []byte(message.Excerpt(o.Data))}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known, b.version, b.doc = true, o.Version, d
	b.dropApplied()
	return nil
}

// Pending returns the oldest orders that have not been applied, as many as are remembered at most, and what the policy
// remembers. Until that has been read, it returns no orders.
func (b *Book) Pending() (list []pool.Order, memory []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.known {
		return nil, nil
	}
	return slices.Clone(b.pending[:min(len(b.pending), mostApplied)]), b.doc.Memory
}

// Known reports whether what the policy remembers has been read.
func (b *Book) Known() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known
}

// Commit stores what the policy remembers from now on, together with the fact that the orders that it has
// seen are applied.
func (b *Book) Commit(ctx context.Context, memory []byte, seen []pool.Order) error {
	b.mu.Lock()
	next := doc{Memory: memory, Applied: slices.Clone(b.doc.Applied), SetAt: b.doc.SetAt}
	for _, o := range seen {
		next.Applied = append(next.Applied, o.ID)
		if o.Absolute && o.At.After(next.SetAt) {
			next.SetAt = o.At
		}
	}
	next.Applied = next.Applied[max(0, len(next.Applied)-mostApplied):]
	version := b.version
	b.mu.Unlock()
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("store what the policy remembers: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	version, err = b.store.Put(ctx, Key(b.pool), data, version)
	if err != nil {
		b.Reread() // it may have been written, by this controller or by another
		return fmt.Errorf("store what the policy remembers: %w", err)
	}
	b.delete(ctx, b.entered(version, next))
	return nil
}

// entered takes what has been stored, and returns the receipts of the messages of applied orders.
func (b *Book) entered(version blob.Version, stored doc) (done map[string]queue.Receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version, b.doc = version, stored
	b.dropApplied()
	done = make(map[string]queue.Receipt)
	for _, id := range stored.Applied {
		if r, ok := b.receipts[id]; ok {
			done[id] = r
		}
	}
	return done
}

// delete deletes the messages of applied orders. Where that fails, it is tried again with the next look.
func (b *Book) delete(ctx context.Context, done map[string]queue.Receipt) {
	if len(done) == 0 || b.queue.Delete(ctx, slices.Collect(maps.Values(done))...) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range done {
		delete(b.receipts, id)
	}
}

// dropApplied forgets pending orders that are applied already, and those that have been overtaken.
func (b *Book) dropApplied() {
	b.pending = slices.DeleteFunc(b.pending, func(o pool.Order) bool {
		applied, overtaken := slices.Contains(b.doc.Applied, o.ID), o.At.Before(b.doc.SetAt)
		if overtaken && !applied {
			b.dropped = append(b.dropped, o)
		}
		return applied || overtaken
	})
}

// Reread makes the next Load read what the policy remembers again: the policy could not use it, and somebody may have
// corrected it.
func (b *Book) Reread() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known = false
}

// HandBack gives the orders that are not applied back to the queue, so that the next controller gets them at once.
func (b *Book) HandBack(ctx context.Context) error {
	b.mu.Lock()
	var receipts []queue.Receipt
	for _, o := range b.pending {
		receipts = append(receipts, b.receipts[o.ID])
		delete(b.receipts, o.ID)
	}
	b.pending = nil
	b.mu.Unlock()
	if len(receipts) == 0 {
		return nil
	}
	return b.queue.Release(ctx, receipts...)
}

// Step takes orders from the queue, and deletes those that are applied. It reports what it took, and whether
// there is anything new.
func (b *Book) Step(ctx context.Context, now time.Time) (said record.Intake, news bool) {
	said = record.Intake{Pool: b.pool, At: now}
	bounded, cancel := context.WithTimeout(ctx, b.wait+slack)
	defer cancel()
	messages, err := b.queue.Receive(bounded, batch, b.wait)
	if ctx.Err() != nil {
		return said, false
	}
	if err != nil {
		said.Err = err
		return said, false
	}
	done := b.take(messages, &said)
	if len(done) > 0 {
		if err := b.queue.Delete(ctx, done...); err != nil && ctx.Err() == nil {
			said.Undeleted = err
		}
	}
	return said, len(messages) > 0
}

// take enters the orders that have come and returns the receipts of the messages that can be deleted.
func (b *Book) take(messages []queue.Message, said *record.Intake) (done []queue.Receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	said.Messages = len(messages)
	for i := range messages {
		m := &messages[i]
		adjust, absolute, err := message.ParseOrder(m.Body)
		if err != nil {
			said.Garbage = append(said.Garbage, record.Garbage{Err: err, Body: message.Excerpt(m.Body)})
			done = append(done, m.Receipt)
			continue
		}
		if _, pending := b.receipts[id(m)]; !pending {
			b.pending = append(b.pending, pool.Order{ID: id(m), At: m.SentAt, Absolute: absolute, N: adjust})
		}
		b.receipts[id(m)] = m.Receipt
	}
	slices.SortStableFunc(b.pending, func(x, y pool.Order) int { return x.At.Compare(y.At) })
	if b.known {
		b.dropApplied()
	}
	return append(done, b.finished(said)...)
}

// finished returns the receipts of orders that need not come again, and says which of them were not carried out.
func (b *Book) finished(said *record.Intake) (done []queue.Receipt) {
	ids := slices.Clone(b.doc.Applied)
	for _, o := range b.dropped {
		ids = append(ids, o.ID)
		said.Garbage = append(said.Garbage, record.Garbage{
			Err: fmt.Errorf("order was sent at %s, before one that has set the number since",
				o.At.Format(time.RFC3339)),
			Body: string(message.EncodeOrder(o.N, o.Absolute)),
		})
	}
	b.dropped = nil
	for _, id := range ids {
		if r, ok := b.receipts[id]; ok {
			done = append(done, r)
			delete(b.receipts, id)
		}
	}
	return done
}
