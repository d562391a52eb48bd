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

// TestADamagedMemoryIsNotForgotten checks that a damaged memory gives an error that says what to do, and is
// not taken for an empty one.
func TestADamagedMemoryIsNotForgotten(t *testing.T) {
	run(t, func(t *testing.T, l *lossy, open func() *orders.Book) {
		if _, err := l.Store.Put(t.Context(), orders.Key("p"), []byte("{"), blob.Any); err != nil {
			t.Fatal(err)
		}
		b := open()
		if err := b.Load(t.Context()); err == nil || b.Known() {
			t.Errorf("got %v, known %v, want an error", err, b.Known())
		}
	})
}
