package desired_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/desired"
)

// dark is a cloud that cannot be listed until it can.
type dark struct {
	cloud.Cloud

	err error
}

// List implements cloud.Cloud.
func (c *dark) List(ctx context.Context) ([]cloud.Instance, error) {
	if c.err != nil {
		return nil, c.err
	}
	return c.Cloud.List(ctx)
}

// TestACloudThatCannotBeListedKeepsNothingFromOthers: what is said of instances of other clouds is heard, and what may
// be about its own instances waits until it is listed.
func TestACloudThatCannotBeListedKeepsNothingFromOthers(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		events := memqueue.New("events", queue.Limits{Visibility: 10 * time.Second, Deliveries: 1000})
		d.queues["events"] = events
		far := &dark{Cloud: d.account.Cloud("test"), err: errAway}
		p := d.parts
		p.Post.Events.Name = "events"
		p.OpenCloud = func(_ context.Context, name pool.CloudName, _ func()) (desired.Machines, error) {
			m := desired.Machines{Cloud: d.account.Cloud("test"), Audit: 5 * time.Second}
			if name == "far" {
				m.Cloud = far
			}
			m.ParseEvent = func(body []byte) (cloud.Event, error) {
				return cloud.Event{
					Says: cloud.Ends, Instances: []pool.InstanceID{pool.InstanceID(body)}, Reason: "it is old",
				}, nil
			}
			return m, nil
		}
		d.pools = desired.New(p)
		away := want("b", 0, 1)
		away.Cloud = "far"
		d.only(want("a", 1, 3), away)
		d.run(d.tasks, 10*time.Second)
		before := d.running("a")
		if len(before) != 1 {
			t.Fatalf("got %v, want one instance", before)
		}
		if err := events.Send(t.Context(), []byte(before[0]), []byte("i-999999")); err != nil {
			t.Fatal(err)
		}
		d.run(d.tasks, 30*time.Second)
		if got := d.running("a"); len(got) != 1 || got[0] == before[0] {
			t.Errorf("got %v, want the successor of %v alone", got, before)
		}
		if !slices.Contains(events.Bodies(), "i-999999") {
			t.Errorf("got %q on the queue, want what may be about an instance that no list has shown", events.Bodies())
		}
		far.err = nil
		d.run(d.tasks, 30*time.Second)
		if got := events.Bodies(); len(got) != 0 {
			t.Errorf("got %q on the queue, want nothing", got)
		}
	})
}
