package walkthrough

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/integration/aws/ec2"
	"cloudmaster/integration/sample"
)

// notice is how long before its end an instance of a story is told; on EC2 it is two minutes.
const notice = 40 * time.Second

// TestStorySpotServer: a server whose instance is about to be taken back leaves the active set and is replaced before
// the instance ends, and the report says why.
func TestStorySpotServer(t *testing.T) {
	s := newStory(t, plot{pools: fibPool, defaults: map[string]string{"market": "spot"}})
	s.controllerStarts()
	s.allocatorStarts()
	client := s.connected()
	s.sees("a server", s.serves(1))
	victim := ids(s.set())[0]
	end := time.Now().Add(notice)
	s.must(s.metal.Reclaim(victim, end))
	s.sees("another server in the active set, and not the old one", func() (string, bool) {
		set := ids(s.set())
		return join(set), len(set) == 1 && set[0] != victim
	})
	if i := s.instance(victim); i.State != "running" || !i.Spot || time.Now().After(end) {
		t.Errorf("got %+v after the replacement, want a spot instance that still runs", i)
	}
	s.must(s.cloud.Reclaim(victim, time.Minute))
	s.reports(0, "fib ", victim, "interrupted")
	s.reports(0, "fib Instance "+victim+" is gone")
	again := s.connected()
	s.sees("a number for a new client", func() (string, bool) { return "", sample.Fibonacci(again.Output(0)) })
	s.leave(client, again)
}

// TestStorySpotEvent: the notice reaches the controller by EventBridge alone, because the program on the instance does
// not look for it. The server is replaced all the same.
func TestStorySpotEvent(t *testing.T) {
	s := newStory(t, plot{pools: fibPool, defaults: map[string]string{"market": "spot"}})
	s.controllerStarts()
	s.allocatorStarts()
	client := s.connected()
	s.sees("a server", s.serves(1))
	victim := ids(s.set())[0]
	s.amazon.happens(s.region, "EC2 Spot Instance Interruption Warning", victim, map[string]any{
		"instance-id": victim, "instance-action": "terminate",
	})
	s.sees("another server in the active set, and not the old one", func() (string, bool) {
		set := ids(s.set())
		return join(set), len(set) == 1 && set[0] != victim
	})
	if i := s.instance(victim); i.State != "running" {
		t.Errorf("got %+v after the replacement, want an instance that still runs", i)
	}
	s.must(s.cloud.Reclaim(victim, time.Minute))
	s.reports(0, "fib Instance "+victim+" is gone")
	s.leave(client)
}

// TestStorySpotWorker: a worker whose instance is about to be taken back hands its job back. Another one, which is
// launched before the instance ends, does it, once.
func TestStorySpotWorker(t *testing.T) {
	quick := strings.NewReplacer("stop_timeout: 3s", "stop_timeout: 100ms")
	s := newStory(t, plot{pools: quick.Replace(primesPool), defaults: map[string]string{"market": "spot"}})
	// The notice is seen within five seconds. There are so many jobs that the worker is at one of them then.
	jobs := []string{"1|" + endless, "2|" + endless, "3|" + endless, "4|" + endless}
	s.controllerStarts()
	s.feeds(jobs...)
	victim := s.worksOn(0, "1")
	end := time.Now().Add(notice)
	s.must(s.metal.Reclaim(victim, end))
	_, back, _ := strings.Cut(s.reports(0, "primes "+victim+" Handed back: "), "Handed back: ")
	job, _, _ := strings.Cut(back, " ")
	s.sees("another worker at job "+job, func() (string, bool) {
		return "", slices.ContainsFunc(s.controller.Output(0), func(line string) bool {
			return strings.Contains(line, " Processing: "+job+" ") && !strings.Contains(line, victim)
		})
	})
	if i := s.instance(victim); i.State != "running" || time.Now().After(end) {
		t.Errorf("got %+v when another worker had the job, want an instance that still runs", i)
	}
	s.must(s.cloud.Reclaim(victim, 0))
	s.reports(0, "primes ", victim, "interrupted")
	s.processed(jobs...)
}

// instance returns an instance as EC2 knows it.
func (s *story) instance(id string) ec2.Instance {
	s.t.Helper()
	all := s.cloud.Instances()
	i := slices.IndexFunc(all, func(i ec2.Instance) bool { return i.ID == id })
	if i < 0 {
		s.t.Fatalf("there is no instance %s", id)
	}
	return all[i]
}
