package app_test

import (
	"context"
	"sync/atomic"
	"testing"
)

// machine is a cloud's machine that the worker runs on.
type machine struct {
	doc    string
	notice atomic.Bool // the cloud takes the machine back
}

func (*machine) OnEC2() bool                                { return true }
func (m *machine) UserData(context.Context) ([]byte, error) { return []byte(m.doc), nil }
func (*machine) InstanceID(context.Context) (string, error) { return "i-0cloud", nil }
func (*machine) Host(context.Context, bool) (string, error) { return "", nil }
func (m *machine) Interruption(context.Context) (string, error) {
	if m.notice.Load() {
		return "terminate at noon", nil
	}
	return "", nil
}

func TestANoticeOfTheCloudHandsTheJobBack(t *testing.T) {
	s := setup(t)
	s.me.InstanceID = ""
	m := s.onCloud(t)
	s.createQueues(t)
	s.start(t, "--stop-timeout", "1s", "--max-n", "2000000000")
	if id := s.log.field(t, "starting", "instance_id"); id != "i-0cloud" {
		t.Errorf("got instance %q, want i-0cloud", id)
	}
	jobs := []string{"1|2000000000", "2|2000000000", "3|2000000000", "4|2000000000"} // seconds each
	s.send(t, jobs...)
	s.wantHeard(t, "Processing: 1 2000000000")
	m.notice.Store(true)
	s.log.want(t, "the cloud takes this instance back; stopping as at a signal") // it looks every 5 seconds
	s.wantHeard(t, "draining")                                                   // while it still works
	s.wantHeard(t, "Handed back: ")
	s.wantEnded(t)
	left, err := s.queue(t, "w").Backlog(t.Context())
	if err != nil || left.Visible == 0 || left.InFlight != 0 {
		t.Errorf("got backlog %+v, %v, want the job that was handed back", left, err)
	}
}

func TestByHandOnACloudsMachine(t *testing.T) {
	s := setup(t)
	s.onCloud(t).doc = ""
	s.createQueues(t)
	s.start(t, "--backend", "mem://x", "--work-queue", "w", "--status-queue", "s", "--instance-id", "me")
	s.send(t, "1|10")
	s.wantHeard(t, "Processed: 1 10 primes (29) in 0")
	s.stop(t)
}

// onCloud gives the worker its user data by a machine's metadata.
func (s *service) onCloud(t *testing.T) *machine {
	t.Helper()
	doc, err := s.me.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{doc: string(doc)}
	s.byHand, s.metadata = true, m
	return m
}
