package desired_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/record"
)

var errAway = errors.New("the other side is away")

// direct is a world with pools that no controller is around, so that tests see all that they ask of their parts.
type direct struct {
	*world

	pools   *desired.Pools
	tasks   *driver.Manual
	parts   desired.Parts
	log     strings.Builder
	forgot  []pool.Name
	looks   []record.Intake  // what looks at queues brought that people are told of
	changed func()           // tells the newest cloud's inventory of an instance that has ended
	clouds  int              // how often a cloud was opened
	noCloud error            // why none can be opened
	lead    error            // why this controller may not act
	opening func()           // happens when a queue is opened; nil: nothing does
	passed  func()           // happens when a pass has ended, while its task goes on; nil: nothing does
	listed  []cloud.Instance // what lists show besides
}

func directly(t *testing.T, f func(t *testing.T, d *direct)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &direct{world: newWorld(t, 1), tasks: &driver.Manual{}}
		p := d.world.parts(1)
		d.parts = desired.Parts{
			Start: d.tasks.Start, Store: p.Store, Sink: d, Now: p.Now, Token: p.Token,
			Pause: p.Pause, Wait: p.Wait, Forget: func(n pool.Name) { d.forgot = append(d.forgot, n) },
			Log:  slog.New(slog.NewTextHandler(&d.log, nil)),
			Lead: func(time.Time) (time.Time, error) { return time.Time{}, d.lead },
			OpenQueue: func(ctx context.Context, name string, limits queue.Limits) (queue.Queue, error) {
				if d.opening != nil {
					d.opening()
				}
				return p.OpenQueue(ctx, name, limits)
			},
			OpenCloud: func(_ context.Context, _ pool.CloudName, changed func()) (desired.Machines, error) {
				d.clouds, d.changed = d.clouds+1, changed
				m := desired.Machines{Cloud: more{d.account.Cloud("test"), d}, ListLag: d.lag, Audit: 5 * time.Second}
				return m, d.noCloud
			},
		}
		d.pools = desired.New(d.parts)
		f(t, d)
	})
}

// more is a cloud whose lists show more.
type more struct {
	cloud.Cloud

	d *direct
}

// List implements cloud.Cloud.
func (m more) List(ctx context.Context) ([]cloud.Instance, error) {
	list, err := m.Cloud.List(ctx)
	return append(list, m.d.listed...), err
}

// Pass implements report.Sink: it keeps the record.
func (d *direct) Pass(ctx context.Context, r *record.Record) {
	d.world.Pass(ctx, r)
	if d.passed != nil {
		d.passed()
	}
}

// Intake implements report.Sink: it keeps what people are told of looks at queues.
func (d *direct) Intake(ctx context.Context, in *record.Intake) {
	d.looks = append(d.looks, *in)
	d.world.Intake(ctx, in)
}

// only has these pools run, and no others.
func (d *direct) only(want ...desired.Pool) desired.Changes {
	d.t.Helper()
	changes, err := d.pools.Apply(d.t.Context(), want)
	if err != nil {
		d.t.Fatal(err)
	}
	return changes
}

// names lists the tasks that there are.
func (d *direct) names() string {
	list := d.tasks.Due(d.t.Context(), time.Now().Add(100*time.Hour))
	slices.Sort(list)
	return strings.Join(list, " ")
}

func (d *direct) wantTasks(when, want string) {
	d.t.Helper()
	if got := d.names(); got != want {
		d.t.Errorf("%s: got the tasks %q, want %q", when, got, want)
	}
}

func (d *direct) wantText(what, got, want string) {
	d.t.Helper()
	if got != want {
		d.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// said is how often the log has a text.
func (d *direct) said(text string) int { return strings.Count(d.log.String(), text) }

// drains is the pool a, whose instances are drained when it is removed.
func drains(least int) desired.Pool {
	p := want("a", least, 4)
	p.OnRemove = desired.Drain
	return p
}

// TestAPoolThatLeavesLeavesNothing: its tasks are over, whoever keeps something of it is told, and when it is added
// again it begins anew.
func TestAPoolThatLeavesLeavesNothing(t *testing.T) {
	directly(t, func(_ *testing.T, d *direct) {
		d.only(want("a", 1, 4), want("b", 1, 4))
		d.run(d.tasks, 30*time.Second)
		d.wantTasks("both run", "intake/a intake/b inventory/mem pool/a pool/b")
		d.only(want("a", 1, 4))
		d.wantTasks("b was removed", "intake/a inventory/mem pool/a")
		d.wantText("who was told of", fmt.Sprint(d.forgot), "[b]")
		d.wantText("b again", fmt.Sprint(d.only(want("a", 1, 4), want("b", 1, 4)).Added), "[b]")
	})
}

// TestARestartEndsTheTasksBefore, so that no two loops work on one pool, and one port follows the other.
func TestARestartEndsTheTasksBefore(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		p := ordered()
		d.reported = time.Now().Add(time.Hour) // so that nobody reports an address
		d.only(p)
		d.order(&p, 1, true)
		d.run(d.tasks, 5*time.Second)
		d.busy(d.running("a")[0])
		d.run(d.tasks, 5*time.Second)
		d.wantTasks("at first", "intake/a inventory/mem orders/a pool/a")
		for what, change := range map[string]func(){
			"port":     func() { p.ServicePort = 4711 },
			"verified": func() { p.Verified = true },
			"orders":   func() { p.Orders.Name = "a-other" },
		} {
			change()
			d.wantText(what, fmt.Sprint(d.only(p).Restarted), "[a]")
			d.wantTasks(what, "intake/a inventory/mem orders/a pool/a")
		}
		p.Verified = false
		d.only(p)
		d.run(d.tasks, 20*time.Second)
		if set := d.set("a"); len(set.Instances) != 1 || !strings.HasSuffix(set.Instances[0].Address, ":4711") {
			t.Errorf("got %+v published, want the new port", set.Instances)
		}
	})
}

// TestADrainingPoolIsRemovedOnce: it is said once, and when its last instance has ended nothing of it is left.
func TestADrainingPoolIsRemovedOnce(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		d.only(drains(2))
		d.run(d.tasks, 30*time.Second)
		if got := d.only(); got.Empty() {
			t.Errorf("got %+v, want it draining", got)
		}
		if got := d.only(); !got.Empty() {
			t.Errorf("the same again: got %+v, want nothing to do", got)
		}
		d.run(d.tasks, time.Minute)
		d.wantTasks("when it has ended", "inventory/mem")
		d.wantText("who was told of", fmt.Sprint(d.forgot), "[a]")
		d.wantText("a again", fmt.Sprint(d.only(drains(1)).Added), "[a]")
	})
}

// TestADrainingPoolThatIsWantedAgainStays, also if nothing else of it has changed.
func TestADrainingPoolThatIsWantedAgainStays(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		d.only(drains(0))
		d.run(d.tasks, 30*time.Second)
		d.only()
		d.wantText("wanted again", fmt.Sprint(d.only(drains(0)).Changed), "[a]")
		d.run(d.tasks, time.Minute)
		d.wantTasks("later", "intake/a inventory/mem pool/a")
		d.wantText("removed again", fmt.Sprint(d.only().Draining), "[a]")
	})
}

// TestApplyWaitsForNoPoolThatEnds: a removed pool finds that it has no instances while another one is added. It does
// not wait for that, but tries again.
func TestApplyWaitsForNoPoolThatEnds(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		d.only(drains(0))
		d.run(d.tasks, 10*time.Second)
		d.only()
		d.opening = func() { d.tasks.Step(t.Context(), "pool/a", time.Now()) }
		d.only(want("b", 0, 1))
		d.wantTasks("when b was added", "intake/a intake/b inventory/mem pool/a pool/b")
		d.opening = nil
		d.run(d.tasks, time.Minute)
		d.wantTasks("later", "intake/b inventory/mem pool/b")
	})
}

// TestACloudThatCannotBeOpenedIsSaidOnce, for all its pools, and it makes nobody unready.
func TestACloudThatCannotBeOpenedIsSaidOnce(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		d.noCloud = errAway
		_, err := d.pools.Apply(t.Context(), []desired.Pool{want("a", 1, 4), want("b", 1, 4)})
		if !errors.Is(err, errAway) || strings.Count(err.Error(), "open cloud mem") != 1 || d.clouds != 1 {
			t.Errorf("got %v and %d attempts, want it said once", err, d.clouds)
		}
		d.noCloud, d.broken = nil, errAway
		if _, err := d.pools.Apply(t.Context(), []desired.Pool{want("a", 1, 4)}); !errors.Is(err, errAway) {
			t.Errorf("got %v, want that there are no queues", err)
		}
		if err := d.pools.Ready(); err != nil {
			t.Errorf("got %v, want a cloud left out that no pool uses", err)
		}
		d.broken, d.clouds = nil, 0
		d.only(want("a", 1, 4), want("b", 1, 4))
		if err := d.pools.Ready(); err == nil || err.Error() != "cloud mem has not been listed yet" {
			t.Errorf("got %v, want that it has not been listed", err)
		}
		d.run(d.tasks, 10*time.Second)
		if err := d.pools.Ready(); err != nil || d.clouds != 0 {
			t.Errorf("got %v and the cloud opened %d times more, want it in use", err, d.clouds)
		}
		d.account.FailAfter("list", 0, errAway)
		d.run(d.tasks, 10*time.Second)
		if err := d.pools.Ready(); !errors.Is(err, errAway) || !strings.Contains(err.Error(), "cloud mem: ") {
			t.Errorf("got %v, want why it cannot be listed", err)
		}
	})
}

// TestNoNameIsNoQueue: a pool without orders opens no queue for them.
func TestNoNameIsNoQueue(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		d.only(want("a", 0, 1))
		if len(d.opens) != 2 || d.opens["a-work"] != 1 || d.opens["a-status"] != 1 {
			t.Errorf("got %v opened, want the work queue and the status queue", d.opens)
		}
	})
}

// TestACloudThatTellsOfAnEndIsListedAtOnce, and a pool that is woken runs a pass.
func TestACloudThatTellsOfAnEndIsListedAtOnce(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		d.only(want("a", 0, 1))
		d.run(d.tasks, 8*time.Second)
		listed := func() bool {
			return slices.Contains(d.tasks.Due(t.Context(), time.Now().Add(100*time.Millisecond)), "inventory/mem")
		}
		if listed() {
			t.Fatal("got the list due, want it at its interval only")
		}
		d.changed()
		if !listed() {
			t.Error("got no list due, want one at once")
		}
		d.tasks.Step(t.Context(), "inventory/mem", time.Now())
		d.pools.Wake("nobody")
		d.pools.Wake("a")
		soon := time.Now().Add(60 * time.Millisecond)
		if got := d.tasks.Due(t.Context(), soon); !slices.Contains(got, "pool/a") {
			t.Errorf("got %v due, want the pool that was woken", got)
		}
	})
}

// TestStraysAreSaidOnce: instances whose pool does not run on their cloud. Those that have ended are none.
func TestStraysAreSaidOnce(t *testing.T) {
	directly(t, func(_ *testing.T, d *direct) {
		d.only(want("a", 1, 4), want("b", 1, 4))
		d.run(d.tasks, 30*time.Second)
		const text = "instances run for a pool that is not in the configuration"
		if d.said(text) != 0 {
			d.t.Errorf("got %s, want no strays", d.log.String())
		}
		for least := range 3 { // so that there is another list
			d.only(want("a", 2+least, 4))
			d.run(d.tasks, 20*time.Second)
		}
		if d.said(text) != 1 || d.said("cloud=mem pool=b instances=[i-") != 1 {
			d.t.Errorf("got %s, want the instance of b said once", d.log.String())
		}
	})
}

// TestChangesAreFollowedAtOnce, and not at the next policy interval: other limits, and a removal.
func TestChangesAreFollowedAtOnce(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		p := drains(1)
		p.Loop.PolicyInterval, p.Loop.ReportInterval, p.Loop.ActiveSetInterval = time.Hour, time.Hour, time.Hour
		d.only(p)
		d.run(d.tasks, 2*time.Minute)
		d.reported = time.Now().Add(time.Hour) // so that no status wakes the pool
		d.run(d.tasks, 3*time.Second)
		pass := func(after func()) {
			t.Helper()
			after()
			got := d.tasks.Due(t.Context(), time.Now().Add(100*time.Millisecond))
			if !slices.Contains(got, "pool/a") {
				t.Errorf("got %v due, want the pool", got)
			}
		}
		p.Loop.Judge.Limits.Maximum, p.Revision = 5, "one more"
		pass(func() { d.only(p) })
		d.run(d.tasks, 3*time.Second)
		pass(func() { d.only() })
	})
}

// TestADeletedQueueIsSaidOnce for as long as it cannot be made anew, and again when it is deleted again.
func TestADeletedQueueIsSaidOnce(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		d.only(want("a", 0, 1))
		d.run(d.tasks, 5*time.Second)
		for n := range 2 {
			d.queue("a-status").Remove()
			d.deleted["a-status"], d.broken = true, errAway
			d.run(d.tasks, time.Minute)
			if got := d.said("cannot be made anew"); got != n+1 {
				t.Errorf("got it said %d times, want %d", got, n+1)
			}
			d.broken = nil
			d.run(d.tasks, 30*time.Second)
			if got := d.said("it is there again"); got != n+1 {
				t.Errorf("got it said %d times that it is there again, want %d", got, n+1)
			}
		}
	})
}

// TestWhatWasReceivedByTheIntakeBeforeCountsAsUnheard: after a restart nobody is judged by silence until the status
// queue has been read.
func TestWhatWasReceivedByTheIntakeBeforeCountsAsUnheard(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		p := want("a", 1, 4)
		d.only(p)
		d.run(d.tasks, 30*time.Second)
		d.passes = nil
		d.tasks.Step(t.Context(), "pool/a", time.Now())
		if d.passes[0].Inputs.Deaf {
			t.Fatal("got a deaf pool before the restart")
		}
		p.ServicePort = 1
		d.only(p)
		d.passes = nil
		d.tasks.Step(t.Context(), "pool/a", time.Now())
		if !d.passes[0].Inputs.Deaf {
			t.Error("got a pool that hears, want it deaf until the queue has been read")
		}
	})
}
