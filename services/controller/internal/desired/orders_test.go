package desired_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/policy/manual"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/record"
)

// ordered is a pool of as many instances as operators order.
func ordered() desired.Pool {
	p := want("a", 0, 4)
	p.Loop.Judge.Policy, p.Orders.Name = manual.Manual{}, "a-manual"
	return p
}

// TestOrdersAreForTheLeader: a controller that does not lead takes none, and one that has lost the lead while it looked
// gives back what it took.
func TestOrdersAreForTheLeader(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		p := ordered()
		d.only(p)
		d.order(&p, 1, true)
		visible := func() int {
			b, err := d.queue(p.Orders.Name).Backlog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return b.Visible
		}
		d.lead = errAway
		d.tasks.Step(t.Context(), "orders/a", time.Now())
		if len(d.looks) != 0 || visible() != 1 {
			t.Errorf("got %+v and %d visible, want the order left where it is", d.looks, visible())
		}
		asked := 0
		d.parts.Lead = nil
		lead := func(time.Time) (time.Time, error) {
			if asked++; asked > 1 {
				return time.Time{}, errAway
			}
			return time.Time{}, nil
		}
		parts := d.parts
		parts.Lead = lead
		others := &driver.Manual{}
		parts.Start = others.Start
		if _, err := desired.New(parts).Apply(t.Context(), []desired.Pool{p}); err != nil {
			t.Fatal(err)
		}
		others.Step(t.Context(), "orders/a", time.Now())
		if asked != 2 || visible() != 1 {
			t.Errorf("asked %d times for the lease, and %d visible: want the order given back", asked, visible())
		}
	})
}

// TestAQueueOfOrdersThatCannotBeReadIsSaid when it begins and when it is over, and tried again after a pause.
func TestAQueueOfOrdersThatCannotBeReadIsSaid(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		p := ordered()
		d.only(p)
		step := func() record.Intake {
			t.Helper()
			d.looks = nil
			d.tasks.Step(t.Context(), "orders/a", time.Now())
			if len(d.looks) != 1 || !d.looks[0].Orders {
				t.Fatalf("got %+v, want one look at the orders told", d.looks)
			}
			return d.looks[0]
		}
		for range 2 {
			for n := range 2 {
				d.queue(p.Orders.Name).NextError(memqueue.OpReceive, errAway)
				said := step()
				if said.Failures != n+1 || said.Deaf != (n == 0) || !errors.Is(said.Err, errAway) {
					t.Errorf("failure %d: got %+v, want it said that it begins with the first", n+1, said)
				}
				soon := time.Now().Add(4900 * time.Millisecond)
				if got := d.tasks.Due(t.Context(), soon); slices.Contains(got, "orders/a") {
					t.Errorf("got %v due, want five seconds of pause", got)
				}
			}
			d.order(&p, 1, true)
			if said := step(); !said.Hears || said.Failures != 2 || said.Err != nil {
				t.Errorf("got %+v, want it said that the queue can be read again", said)
			}
		}
		d.order(&p, 1, false)
		if said := step(); said.Hears || said.Failures != 0 {
			t.Errorf("got %+v, want nothing said of failures that are over", said)
		}
	})
}

// TestAnOrderIsCarriedOutAtOnce, and not at the next policy interval. One that is not carried out is handed back at the
// end.
func TestAnOrderIsCarriedOutAtOnce(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		p := ordered()
		p.Loop.PolicyInterval = time.Hour
		d.only(p)
		d.run(d.tasks, 30*time.Second)
		d.order(&p, 2, true)
		d.run(d.tasks, time.Second)
		if got := d.running("a"); len(got) != 2 {
			t.Errorf("got %v, want two at once", got)
		}
		d.order(&p, 3, true)
		d.tasks.Step(t.Context(), "orders/a", time.Now())
		d.only()
		if b, err := d.queue(p.Orders.Name).Backlog(t.Context()); err != nil || b.Visible != 1 {
			t.Errorf("got %+v and error %v, want the order handed back", b, err)
		}
	})
}

// TestNoTwoPoolsReadOneQueueOfOrders, nor a pool that is being removed and one that is added.
func TestNoTwoPoolsReadOneQueueOfOrders(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		p := ordered()
		p.OnRemove = desired.Drain
		d.only(p)
		d.order(&p, 1, true)
		d.run(d.tasks, 30*time.Second)
		other := want("b", 0, 1)
		other.Orders.Name = p.Orders.Name
		for range 2 { // while it runs, and while it drains
			_, err := d.pools.Apply(t.Context(), []desired.Pool{other})
			if err == nil || !strings.Contains(err.Error(), "pool b: its queue a-manual is still read by the pool a") {
				t.Errorf("got %v, want that the queue is taken", err)
			}
			d.only()
		}
	})
}
