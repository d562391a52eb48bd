package orders_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/orders"
	"cloudmaster/services/controller/internal/record"
)

var errAway = errors.New("the broker is away")

// counted is a store and a queue that give what the test says, and count calls.
type counted struct {
	*memblob.Store

	batch   []queue.Message // what the next look gets
	receive func(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error)
	broken  error // why the next calls of Get, Delete and Release fail
	hangs   bool  // the store answers nothing
	gets    int

	deleted, released []string // what each call was about
}

func (c *counted) hang(ctx context.Context) error {
	if !c.hangs {
		return c.broken
	}
	<-ctx.Done()
	return ctx.Err()
}

// Get implements orders.Store.
func (c *counted) Get(ctx context.Context, key string, have blob.Version) (blob.Object, error) {
	c.gets++
	if err := c.hang(ctx); err != nil {
		return blob.Object{}, err
	}
	return c.Store.Get(ctx, key, have)
}

// Put implements orders.Store.
func (c *counted) Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error) {
	if c.hangs {
		return "", c.hang(ctx)
	}
	return c.Store.Put(ctx, key, data, last)
}

// Receive implements orders.Queue.
func (c *counted) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	if c.receive != nil {
		return c.receive(ctx, most, wait)
	}
	out := c.batch
	c.batch = nil
	return out, nil
}

// Delete implements orders.Queue.
func (c *counted) Delete(_ context.Context, receipts ...queue.Receipt) error {
	slices.Sort(receipts)
	c.deleted = append(c.deleted, fmt.Sprint(receipts))
	return c.broken
}

// Release implements orders.Queue.
func (c *counted) Release(_ context.Context, receipts ...queue.Receipt) error {
	c.released = append(c.released, fmt.Sprint(receipts))
	return c.broken
}

// looks is a book on a counted store and queue.
type looks struct {
	*orders.Book
	*counted

	t     *testing.T
	start time.Time
}

func look(t *testing.T, f func(t *testing.T, l *looks)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counted{Store: memblob.New()}
		f(t, &looks{Book: orders.New("p", c, c, 0), counted: c, t: t, start: time.Now()})
	})
}

// came is a message that was sent so many seconds after the start. Its id is its body and that time; its receipt is
// that time.
func (l *looks) came(second int, body string) queue.Message {
	return queue.Message{
		ID: body, Body: []byte(body), SentAt: l.start.Add(time.Duration(second) * time.Second),
		Receipt: queue.Receipt(fmt.Sprintf("r%d", second)),
	}
}

// step makes one look, which gets these messages.
func (l *looks) step(messages ...queue.Message) (record.Intake, bool) {
	l.batch = messages
	return l.Step(l.t.Context(), l.start)
}

func (l *looks) mustLoad() {
	l.t.Helper()
	if err := l.Load(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// carryOut commits all pending orders, as a pass does.
func (l *looks) carryOut() {
	l.t.Helper()
	l.mustLoad()
	seen, _ := l.Pending()
	if err := l.Commit(l.t.Context(), []byte(`{}`), seen); err != nil {
		l.t.Fatal(err)
	}
}

// restart has another book in the place of this one, as another controller would.
func (l *looks) restart() { l.Book = orders.New("p", l.counted, l.counted, 0) }

func (l *looks) want(what, got, want string) {
	l.t.Helper()
	if got != want {
		l.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestALookAsksForWhatSQSGives: ten messages and the longest poll, unless the book was made with another wait. A look
// that lasts well over that has failed.
func TestALookAsksForWhatSQSGives(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		said := ""
		l.receive = func(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
			end, _ := ctx.Deadline()
			said = fmt.Sprint(most, wait, time.Until(end))
			return nil, nil
		}
		l.step()
		l.want("a look", said, "10 20s 30s")
		l.Book = orders.New("p", l.counted, l.counted, time.Second)
		l.step()
		l.want("a look that waits a second", said, "10 1s 11s")
	})
}

// TestALookSaysWhatItBrought, and deletes what can be deleted, once.
func TestALookSaysWhatItBrought(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		said, news := l.step()
		if said.Pool != "p" || !said.At.Equal(l.start) || said.Messages != 0 || news {
			t.Errorf("nothing: got %+v and news %v", said, news)
		}
		l.want("deleted after nothing", fmt.Sprint(l.deleted), "[]")
		said, news = l.step(l.came(1, "nonsense"))
		if said.Messages != 1 || !news || len(said.Garbage) != 1 || said.Undeleted != nil {
			t.Fatalf("nonsense: got %+v and news %v, want one message that does not count", said, news)
		}
		l.want("what it was", said.Garbage[0].Body, `"nonsense"`)
		if err := said.Garbage[0].Err; err == nil || !strings.Contains(err.Error(), "order is not of the form") {
			t.Errorf("got %v, want what an order looks like", err)
		}
		l.want("deleted after nonsense", fmt.Sprint(l.deleted), "[[r1]]")
		l.broken = errAway
		if said, _ = l.step(l.came(2, "nonsense")); !errors.Is(said.Undeleted, errAway) || said.Err != nil {
			t.Errorf("not deleted: got %+v, want %v", said, errAway)
		}
	})
}

// TestALookThatFails says why, unless it failed because the controller ends.
func TestALookThatFails(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		ctx, cancel := context.WithCancel(t.Context())
		nonsense := []queue.Message{l.came(1, "nonsense")}
		l.receive = func(context.Context, int, time.Duration) ([]queue.Message, error) { return nonsense, errAway }
		if said, news := l.Step(ctx, l.start); !errors.Is(said.Err, errAway) || news || said.Messages != 0 {
			t.Errorf("got %+v and news %v, want %v", said, news, errAway)
		}
		l.broken = errAway
		l.receive = func(context.Context, int, time.Duration) ([]queue.Message, error) {
			cancel()
			return nonsense, nil
		}
		if said, news := l.Step(ctx, l.start); said.Err != nil || news || said.Messages != 0 {
			t.Errorf("when it ends: got %+v and news %v, want nothing", said, news)
		}
	})
}

// ending ends the controller during Delete.
type ending struct {
	*counted

	cancel context.CancelFunc
}

// Delete implements orders.Queue.
func (e ending) Delete(ctx context.Context, receipts ...queue.Receipt) error {
	e.cancel()
	return e.counted.Delete(ctx, receipts...)
}

// TestNobodyHearsOfADeletionThatTheEndCutOff: the message comes again, to the next controller.
func TestNobodyHearsOfADeletionThatTheEndCutOff(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		ctx, cancel := context.WithCancel(t.Context())
		l.broken, l.batch = context.Canceled, []queue.Message{l.came(1, "nonsense")}
		l.Book = orders.New("p", ending{l.counted, cancel}, l.counted, 0)
		if said, news := l.Step(ctx, l.start); said.Undeleted != nil || !news {
			t.Errorf("got %+v and news %v, want no complaint", said, news)
		}
	})
}

// TestOrdersAreCarriedOutInTheOrderInWhichTheyWereSent, however they come.
func TestOrdersAreCarriedOutInTheOrderInWhichTheyWereSent(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		l.mustLoad()
		l.step(l.came(3, `{"adjust":3}`), l.came(1, `{"adjust":1}`))
		l.step(l.came(2, `{"adjust":2}`))
		l.want("pending", pending(l.Book), " false:1 false:2 false:3")
	})
}

// TestTheStoreIsReadOnce, and again only when that is asked for. While it cannot be read nothing is known.
func TestTheStoreIsReadOnce(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		l.broken = errAway
		if err := l.Load(t.Context()); !errors.Is(err, errAway) || l.Known() {
			t.Errorf("got %v, known %v, want %v", err, l.Known(), errAway)
		}
		l.broken, l.gets = nil, 0
		l.mustLoad()
		l.mustLoad()
		if l.gets != 1 || !l.Known() {
			t.Errorf("got %d reads, known %v, want one", l.gets, l.Known())
		}
	})
}

// TestAHangingStoreHoldsUpNoPass for longer than a few seconds.
func TestAHangingStoreHoldsUpNoPass(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		l.hangs = true
		if err := l.Load(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read: got %v, want %v", err, context.DeadlineExceeded)
		}
		if err := l.Commit(t.Context(), []byte(`{}`), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("written: got %v, want %v", err, context.DeadlineExceeded)
		}
		if took := time.Since(l.start); took > 20*time.Second {
			t.Errorf("both took %s", took)
		}
	})
}

// TestAMemoryThatIsNoJSONIsNotStored, and its orders are not taken for applied.
func TestAMemoryThatIsNoJSONIsNotStored(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		l.mustLoad()
		l.step(l.came(1, `{"adjust":1}`))
		seen, _ := l.Pending()
		if err := l.Commit(t.Context(), []byte("{"), seen); err == nil {
			t.Error("got no error, want that it cannot be stored")
		}
		l.want("pending", pending(l.Book), " false:1")
		if _, err := l.Store.Get(t.Context(), orders.Key("p"), ""); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("got %v, want nothing stored", err)
		}
	})
}

// TestAppliedOrdersAreRememberedOverTheNext: their messages could not be deleted, and come again to a controller that
// took them before it knew what is applied.
func TestAppliedOrdersAreRememberedOverTheNext(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		first := l.came(1, `{"adjust":1}`)
		l.step(first)
		l.carryOut()
		l.step(l.came(2, `{"adjust":2}`))
		l.carryOut()
		l.restart()
		l.step(first)
		l.mustLoad()
		l.want("pending", pending(l.Book), "{}")
		if said, _ := l.step(); len(said.Garbage) > 0 {
			t.Errorf("got %v, want no word of an order that was carried out", said.Garbage)
		}
	})
}

// TestOnlyAnOrderThatSetsTheNumberOvertakes older ones, and it does so also after others have been carried out.
func TestOnlyAnOrderThatSetsTheNumberOvertakes(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		l.step(l.came(5, `{"adjust":5}`))
		l.carryOut()
		l.step(l.came(4, `{"adjust":4}`)) // older, but nothing has set the number since
		l.want("after an adjustment", pending(l.Book), "{} false:4")
		l.step(l.came(6, `{"set":6}`))
		l.carryOut()
		if said, _ := l.step(); len(said.Garbage) > 0 {
			t.Errorf("got %v, want no word of orders that were carried out", said.Garbage)
		}
		l.step(l.came(7, `{"adjust":7}`))
		l.carryOut()
		said, _ := l.step(l.came(3, `{"adjust":-3}`))
		l.want("after a number was set", pending(l.Book), "{}")
		if len(said.Garbage) != 1 || !strings.Contains(fmt.Sprint(said.Garbage[0].Err), "order was sent at "+
			l.start.Add(3*time.Second).Format(time.RFC3339)) {
			t.Fatalf("got %v, want why it does not count", said.Garbage)
		}
		l.want("what it was", said.Garbage[0].Body, `{"adjust":-3}`)
	})
}

// TestTheNewestNumberCounts, whatever the order in which orders are committed.
func TestTheNewestNumberCounts(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		l.mustLoad()
		l.step(l.came(1, `{"set":1}`), l.came(9, `{"set":9}`))
		seen, _ := l.Pending()
		slices.Reverse(seen)
		if err := l.Commit(t.Context(), []byte(`{}`), seen); err != nil {
			t.Fatal(err)
		}
		l.step(l.came(5, `{"adjust":5}`))
		l.want("pending", pending(l.Book), "{}")
	})
}

// TestMessagesOfAppliedOrdersAreDeletedOnce: with the commit, or, if that fails, with the next look.
func TestMessagesOfAppliedOrdersAreDeletedOnce(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		l.step(l.came(1, `{"adjust":1}`))
		l.carryOut()
		l.want("deleted", fmt.Sprint(l.deleted), "[[r1]]")
		l.step()
		l.carryOut()
		l.want("deleted when nothing is left", fmt.Sprint(l.deleted), "[[r1]]")
		l.deleted = nil
		l.step(l.came(2, `{"adjust":2}`))
		l.mustLoad()
		seen, _ := l.Pending()
		l.broken = errAway
		if err := l.Commit(t.Context(), []byte(`{}`), seen); err != nil {
			t.Errorf("got %v, want it stored all the same", err)
		}
		l.broken = nil
		l.step()
		l.step()
		l.want("deleted at the second attempt", fmt.Sprint(l.deleted), "[[r2] [r2]]")
	})
}

// TestOrdersThatWereHandedBackComeAgain, also to the controller that has handed them back. With none, nothing is asked
// of the queue.
func TestOrdersThatWereHandedBackComeAgain(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		if err := l.HandBack(t.Context()); err != nil || l.released != nil {
			t.Errorf("got %v and %v, want nothing handed back", err, l.released)
		}
		l.mustLoad()
		l.step(l.came(1, `{"adjust":1}`))
		l.broken = errAway
		if err := l.HandBack(t.Context()); !errors.Is(err, errAway) {
			t.Errorf("got %v, want %v", err, errAway)
		}
		l.broken = nil
		l.want("handed back", fmt.Sprint(l.released), "[[r1]]")
		l.step(l.came(1, `{"adjust":1}`))
		l.want("pending", pending(l.Book), " false:1")
	})
}

// TestAHundredAreCarriedOutAtATime, because so many are remembered.
func TestAHundredAreCarriedOutAtATime(t *testing.T) {
	look(t, func(t *testing.T, l *looks) {
		var all []queue.Message
		for n := range 101 {
			all = append(all, l.came(n, `{"adjust":1}`))
		}
		l.step(all...)
		l.mustLoad()
		if seen, _ := l.Pending(); len(seen) != 100 {
			t.Errorf("got %d at a time, want 100", len(seen))
		}
		l.carryOut()
		l.carryOut()
		o, err := l.Store.Get(t.Context(), orders.Key("p"), "")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(o.Data), "@"); got != 100 { // each id has one
			t.Errorf("got %d remembered, want 100", got)
		}
	})
}
