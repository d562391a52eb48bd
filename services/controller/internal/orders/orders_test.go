package orders_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/orders"
)

var errLost = errors.New("the answer was lost")

// lossy is a store and a queue. While lost is set, writes take effect but return an error, as if their
// answers were lost.
type lossy struct {
	*memblob.Store

	queue *memqueue.Queue
	lost  bool
}

// Put always takes effect, but returns an error while lost is set.
func (l *lossy) Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error) {
	v, err := l.Store.Put(ctx, key, data, last)
	if l.lost {
		return "", errLost
	}
	return v, err
}

// Receive passes the call on.
func (l *lossy) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	return l.queue.Receive(ctx, most, wait)
}

// Delete fails while answers are lost.
func (l *lossy) Delete(ctx context.Context, receipts ...queue.Receipt) error {
	if l.lost {
		return errLost
	}
	return l.queue.Delete(ctx, receipts...)
}

// Release passes the call on.
func (l *lossy) Release(ctx context.Context, receipts ...queue.Receipt) error {
	return l.queue.Release(ctx, receipts...)
}

func run(t *testing.T, f func(t *testing.T, l *lossy, open func() *orders.Book)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lossy{
			Store: memblob.New(),
			queue: memqueue.New("orders", queue.Limits{Visibility: 30 * time.Second, Deliveries: 100}),
		}
		f(t, l, func() *orders.Book { return orders.New("p", l, l, time.Second) })
	})
}

func send(t *testing.T, l *lossy, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := l.queue.Send(t.Context(), []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
}

// pending returns the pending orders of a book as text.
func pending(b *orders.Book) string {
	list, memory := b.Pending()
	out := string(memory)
	for _, o := range list {
		out += fmt.Sprintf(" %v:%d", o.Absolute, o.N)
	}
	return out
}

func TestAnOrderCountsOnce(t *testing.T) {
	run(t, func(t *testing.T, l *lossy, open func() *orders.Book) {
		b := open()
		send(t, l, `{"adjust":2}`, `nonsense`, `{"set":7}`)
		said, news := b.Step(t.Context(), time.Now())
		if !news || len(said.Garbage) != 1 || pending(b) != "" {
			t.Errorf("before the store was read: got %+v, %q, want no orders", said, pending(b))
		}
		if err := b.Load(t.Context()); err != nil || pending(b) != " false:2 true:7" {
			t.Fatalf("got %v, %q, want both orders in their order", err, pending(b))
		}
		seen, _ := b.Pending()
		l.lost = true // it is stored, but the book does not learn that
		if err := b.Commit(t.Context(), []byte(`{"n":7}`), seen); !errors.Is(err, errLost) || b.Known() {
			t.Errorf("got %v, known %v, want the store to be read again", err, b.Known())
		}
		l.lost = false
		b = open() // as another controller would, to which the messages are delivered again
		time.Sleep(31 * time.Second)
		if err := b.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Step(t.Context(), time.Now())
		if got := pending(b); got != `{"n":7}` {
			t.Errorf("got %q, want the memory, and the orders not again", got)
		}
		if left := l.queue.Bodies(); len(left) != 0 {
			t.Errorf("got %v left on the queue, want nothing", left)
		}
	})
}

// TestADamagedMemoryIsNotForgotten checks that a damaged object is not taken for an empty one: the policy is given
// what it cannot read, and refuses it.
func TestADamagedMemoryIsNotForgotten(t *testing.T) {
	run(t, func(t *testing.T, l *lossy, open func() *orders.Book) {
		if _, err := l.Store.Put(t.Context(), orders.Key("p"), []byte("{"), blob.Any); err != nil {
			t.Fatal(err)
		}
		b := open()
		if err := b.Load(t.Context()); err != nil || pending(b) != `"{"` {
			t.Errorf("got %v, %s, want what is in the store, as text", err, pending(b))
		}
		if err := b.Commit(t.Context(), []byte(`{"n":1}`), nil); err != nil { // then the policy has another one
			t.Fatal(err)
		}
		b.Reread()
		if err := b.Load(t.Context()); err != nil || pending(b) != `{"n":1}` {
			t.Errorf("got %v, %s, want the new memory", err, pending(b))
		}
	})
}

// TestAnOvertakenOrderIsDropped: an order that a controller had taken and not carried out when it died comes again
// after newer ones. If one of those sets the number, the older order would undo it.
func TestAnOvertakenOrderIsDropped(t *testing.T) {
	run(t, func(t *testing.T, l *lossy, open func() *orders.Book) {
		dying := open()
		send(t, l, `{"set":1}`, `{"adjust":5}`)
		dying.Step(t.Context(), time.Now()) // and dies
		time.Sleep(time.Second)
		b := open()
		send(t, l, `{"set":4}`)
		b.Step(t.Context(), time.Now())
		if err := b.Load(t.Context()); err != nil || pending(b) != " true:4" {
			t.Fatalf("got %v, %q, want the newest order", err, pending(b))
		}
		seen, _ := b.Pending()
		if err := b.Commit(t.Context(), []byte(`{"n":4}`), seen); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		send(t, l, `{"adjust":-1}`)
		said, _ := b.Step(t.Context(), time.Now())
		if got := pending(b); got != `{"n":4} false:-1` || len(said.Garbage) != 2 {
			t.Errorf("got %q and %v, want only the newest, and the two others said", got, said.Garbage)
		}
		if left := l.queue.Bodies(); len(left) != 1 {
			t.Errorf("got %v left on the queue, want the newest only", left)
		}
	})
}

// TestHandBack: the next controller gets the orders that this one has not carried out at once, and in their order.
func TestHandBack(t *testing.T) {
	run(t, func(t *testing.T, l *lossy, open func() *orders.Book) {
		b := open()
		send(t, l, `{"set":1}`, `{"set":2}`)
		b.Step(t.Context(), time.Now())
		if err := b.HandBack(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := open()
		next.Step(t.Context(), time.Now())
		if err := next.Load(t.Context()); err != nil || pending(next) != " true:1 true:2" {
			t.Errorf("got %v, %q, want both orders", err, pending(next))
		}
	})
}

// TestOrdersOfAQueueThatWasMadeAnew may have the ids of orders that were applied long ago.
func TestOrdersOfAQueueThatWasMadeAnew(t *testing.T) {
	run(t, func(t *testing.T, l *lossy, open func() *orders.Book) {
		b := open()
		for n := range 2 {
			send(t, l, `{"adjust":1}`)
			b.Step(t.Context(), time.Now())
			if err := b.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			seen, _ := b.Pending()
			if len(seen) != 1 {
				t.Fatalf("queue %d: got %v, want one order", n, seen)
			}
			if err := b.Commit(t.Context(), []byte(`{"n":1}`), seen); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			l.queue = memqueue.New("orders", queue.Limits{Visibility: 30 * time.Second})
		}
	})
}

// TestMoreOrdersThanAreRemembered are carried out in several goes, each of them once.
func TestMoreOrdersThanAreRemembered(t *testing.T) {
	run(t, func(t *testing.T, l *lossy, open func() *orders.Book) {
		b := open()
		for range 15 {
			for range 10 {
				send(t, l, `{"adjust":1}`)
			}
			b.Step(t.Context(), time.Now())
		}
		if err := b.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		total := 0
		for range 3 {
			seen, _ := b.Pending()
			total += len(seen)
			if err := b.Commit(t.Context(), []byte(`{"n":1}`), seen); err != nil {
				t.Fatal(err)
			}
		}
		if total != 150 || len(l.queue.Bodies()) != 0 {
			t.Errorf("got %d orders carried out and %v left, want 150 and none", total, l.queue.Bodies())
		}
	})
}
