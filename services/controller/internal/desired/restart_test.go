package desired_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/record"
)

// jobs is a pool of workers for as many jobs as there are.
func jobs(t *testing.T, most int) desired.Pool {
	t.Helper()
	job, err := policy.NewJob(policy.JobSettings{StartThreshold: 1, IdleThreshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := want("a", 0, most)
	p.Loop.Judge.Policy = job
	return p
}

// busy has an instance say that it is at work.
func (w *world) busy(id pool.InstanceID) {
	w.t.Helper()
	body, err := message.EncodeStatus(message.Status{
		InstanceID: id, State: "active", Activity: message.Busy, Load: 1, Timestamp: time.Now(),
		Sequence: uint64(time.Now().UnixNano()),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.queue("a-status").Send(w.t.Context(), body); err != nil {
		w.t.Fatal(err)
	}
}

// TestARestartedPoolKnowsItsInstances: its tasks are started anew right after a launch, when no list shows what was
// launched, and after its workers have said that they are at work. Nothing is launched twice, and none is ended.
func TestARestartedPoolKnowsItsInstances(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		p := jobs(w.t, 2)
		w.apply(c, p)
		w.run(tasks, 10*time.Second)
		for range 6 {
			if err := w.queue("a-work").Send(w.t.Context(), []byte("1|1")); err != nil {
				w.t.Fatal(err)
			}
		}
		tasks.Step(w.t.Context(), "pool/a", time.Now())
		if got := w.running("a"); len(got) != 2 {
			w.t.Fatalf("got %v, want two launched", got)
		}
		for _, id := range w.running("a") {
			w.busy(id)
		}
		tasks.Step(w.t.Context(), "intake/a", time.Now())
		for port := range 3 {
			p.ServicePort = port + 1
			if got := w.apply(c, p); fmt.Sprint(got.Restarted) != "[a]" {
				w.t.Errorf("got %+v, want the pool restarted", got)
			}
			tasks.Step(w.t.Context(), "pool/a", time.Now())
		}
		p.Loop.Judge.Limits.Maximum, p.Revision = 1, "one less" // which ends nobody who is at work
		w.reported = time.Now().Add(time.Minute)                // nor does anybody say that it is idle
		w.apply(c, p)
		w.run(tasks, 20*time.Second)
		if got := w.running("a"); len(got) != 2 {
			w.t.Errorf("got %v, want the two that were launched", got)
		}
		for _, r := range w.passes {
			if len(r.Endings) > 0 {
				w.t.Errorf("got %v, want nothing ended", r.Endings)
			}
		}
	})
}

// TestAPoolThatIsBackKnowsItsInstances: it was removed right after a launch, its instances were left alone, and it is
// added again before a list shows them.
func TestAPoolThatIsBackKnowsItsInstances(t *testing.T) {
	bubble(t, func(w *world) {
		w.lag = time.Second // so that there is no launch journal
		c, tasks := w.mustLead(1)
		w.apply(c, want("b", 0, 1)) // so that the cloud is listed
		w.run(tasks, 10*time.Second)
		w.apply(c, want("b", 0, 1), want("a", 1, 1))
		for len(w.running("a")) == 0 {
			w.run(tasks, 50*time.Millisecond)
		}
		w.apply(c, want("b", 0, 1))
		w.apply(c, want("b", 0, 1), want("a", 1, 1))
		w.run(tasks, 30*time.Second)
		if got := w.running("a"); len(got) != 1 {
			w.t.Errorf("got %v, want one", got)
		}
	})
}

// TestWhatInstancesWereLaunchedWithStays: a change of it is refused, with what to do.
func TestWhatInstancesWereLaunchedWithStays(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		w.apply(c, want("a", 1, 4))
		w.run(tasks, 30*time.Second)
		for text, change := range map[string]func(p *desired.Pool){
			"cloud cannot change from mem to moon while it runs":   func(p *desired.Pool) { p.Cloud = "moon" },
			"work queue cannot change from a-work to other":        func(p *desired.Pool) { p.Work.Name = "other" },
			"status queue cannot change from a-status to other":    func(p *desired.Pool) { p.Status.Name = "other" },
			"status parser cannot change from std to other":        func(p *desired.Pool) { p.Parser = "other" },
			"remove the pool first (on_remove: drain), and add it": func(p *desired.Pool) { p.Cloud = "moon" },
		} {
			p := want("a", 1, 4)
			change(&p)
			if _, err := c.Apply(w.t.Context(), []desired.Pool{p}); err == nil || !strings.Contains(err.Error(), text) {
				w.t.Errorf("got %v, want %q", err, text)
			}
		}
		p := want("a", 1, 4)
		p.Work.Limits = queue.Limits{Visibility: time.Hour}
		if got := w.apply(c, p); fmt.Sprint(got.Restarted) != "[a]" {
			w.t.Errorf("got %+v, want other limits of a queue taken", got)
		}
	})
}

// TestQueuesOfAPoolThatDrainsAreTaken: two pools that read one queue would take each other's statuses.
func TestQueuesOfAPoolThatDrainsAreTaken(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		old := want("a", 1, 4)
		old.OnRemove = desired.Drain
		w.apply(c, old)
		w.run(tasks, 30*time.Second)
		renamed := want("b", 1, 4)
		renamed.Status.Name = old.Status.Name
		refused := func() {
			w.t.Helper()
			_, err := c.Apply(w.t.Context(), []desired.Pool{renamed})
			const text = "pool b: its queue a-status is still read by the pool a, whose instances are being drained"
			if err == nil || !strings.Contains(err.Error(), text) {
				w.t.Errorf("got %v, want %q", err, text)
			}
		}
		refused()
		w.apply(c)
		refused()
		w.run(tasks, time.Minute)
		w.apply(c, renamed) // now it has ended
	})
}

// TestWhatIsNotPublishedAnyMoreNamesNobody: the active set is emptied when the pool ceases to publish it.
func TestWhatIsNotPublishedAnyMoreNamesNobody(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		p := want("a", 2, 4)
		w.apply(c, p)
		w.run(tasks, 30*time.Second)
		if set := w.set("a"); len(set.Instances) != 2 {
			w.t.Fatalf("got %v published, want two", set.Instances)
		}
		p.Publishes = false
		w.apply(c, p)
		w.run(tasks, 30*time.Second)
		if set := w.set("a"); len(set.Instances) != 0 {
			w.t.Errorf("got %v published, want none", set.Instances)
		}
	})
}

func (w *world) set(name pool.Name) activeset.Set {
	w.t.Helper()
	o, err := w.store.Get(w.t.Context(), activeset.Key(name), "")
	if err != nil {
		w.t.Fatal(err)
	}
	set, err := activeset.Decode(o.Data)
	if err != nil {
		w.t.Fatal(err)
	}
	return set
}

// TestADrainEndsUnderAnotherPolicy: an instance was shut down by a policy that drains. The next one does not, and the
// instance ends all the same when nobody is connected.
func TestADrainEndsUnderAnotherPolicy(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		draining := want("a", 2, 2)
		draining.Loop.Judge.Limits.Drain = true
		w.apply(c, draining)
		w.run(tasks, 30*time.Second)
		draining.Loop.Judge.Limits.Minimum, draining.Loop.Judge.Limits.Maximum = 1, 1
		draining.Revision = "one less"
		w.apply(c, draining)
		w.passes = nil
		tasks.Step(w.t.Context(), "pool/a", time.Now())
		if len(done(w.passes[0], record.ShutDown)) != 1 {
			w.t.Fatalf("got %s, want one shut down", w.passes[0].Words)
		}
		w.apply(c, want("a", 1, 1))
		w.run(tasks, time.Minute)
		if got := w.running("a"); len(got) != 1 {
			w.t.Errorf("got %v, want the one that drained ended", got)
		}
	})
}
