package memcloud

import (
	"context"
	"slices"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Op is the name of an operation of the port.
type Op string

// The operations.
const (
	OpLaunch    Op = "launch"
	OpList      Op = "list"
	OpTag       Op = "tag"
	OpTerminate Op = "terminate"
	OpStop      Op = "stop"
	OpStart     Op = "start"
)

// Call is one call of the port, as tests can inspect it.
type Call struct {
	At         time.Time
	Op         Op
	Deployment string
	Token      string            // only for a launch
	Asked      int               // how many instances a launch asked for
	IDs        []pool.InstanceID // launched, tagged, stopped, started or terminated; nil for lists
	Tags       map[string]string // those given to a launch or Tag
	Err        error             // the error that the call returned
}

// faults is the injected misbehaviour of one operation.
type faults struct {
	next  []error // returned by calls that have no effect; a nil lets one call pass
	lost  []error // returned although the call took effect; a nil leaves one answer alone
	after error   // returned by every call once passes is used up
	pass  int
}

// NextError makes the next calls of op fail without effect, each with the next of errs. A nil among
// errs lets one call pass.
func (a *Account) NextError(op Op, errs ...error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.faultsLocked(op)
	f.next = append(f.next, errs...)
}

// LoseAnswer makes the next calls of op take effect and nevertheless return an error, each the next
// of errs. This is what a client sees whose connection breaks.
func (a *Account) LoseAnswer(op Op, errs ...error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.faultsLocked(op)
	f.lost = append(f.lost, errs...)
}

// FailAfter lets n calls of op pass. All later ones fail with err and without effect, until Heal.
func (a *Account) FailAfter(op Op, n int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.faultsLocked(op)
	f.pass, f.after = n, err
}

// Heal ends all injected faults.
func (a *Account) Heal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.faults)
}

// SetCapacity changes Options.Capacity. Instances that run go on running.
func (a *Account) SetCapacity(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opts.Capacity = n
}

// Vanish ends instances at once, without any call of the port.
func (a *Account) Vanish(ids ...pool.InstanceID) {
	a.mu.Lock()
	ended := a.endLocked(time.Now(), 0, func(in *instance) bool { return slices.Contains(ids, in.ID) })
	a.mu.Unlock()
	a.tell(a.opts.OnTerminate, ended)
}

// Instances returns the instances of all deployments as they are now, without lag, in the order of
// their launch.
func (a *Account) Instances() []cloud.Instance {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.viewLocked(time.Now(), func(*instance) bool { return true })
}

// UserData returns the document that an instance received.
func (a *Account) UserData(id pool.InstanceID) (doc []byte, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	in, ok := a.byID[id]
	if !ok {
		return nil, false
	}
	return slices.Clone(in.userData), true
}

// Calls returns the calls so far, in the order of their return.
func (a *Account) Calls() []Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

// Count returns how many calls of op there were so far.
func (a *Account) Count(op Op) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for i := range a.calls {
		if a.calls[i].Op == op {
			n++
		}
	}
	return n
}

// ForgetCalls empties the history, which grows with every call.
func (a *Account) ForgetCalls() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = nil
}

// begin is called first by every method of the port: it spends the latency, and may return an
// injected fault.
func (a *Account) begin(ctx context.Context, op Op) error {
	if a.opts.Latency > 0 {
		timer := time.NewTimer(a.opts.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.faultsLocked(op)
	if len(f.next) > 0 {
		err := f.next[0]
		f.next = f.next[1:]
		return err
	}
	if f.after != nil {
		if f.pass <= 0 {
			return f.after
		}
		f.pass--
	}
	return a.throttleLocked(time.Now())
}

// throttleLocked takes one token from the bucket that limits calls, or refuses the call if none is left.
func (a *Account) throttleLocked(now time.Time) error {
	if a.opts.CallRate == 0 {
		return nil
	}
	full := float64(a.opts.CallBurst)
	a.tokens = min(full, a.tokens+now.Sub(a.filled).Seconds()*a.opts.CallRate)
	a.filled = now
	if a.tokens < 1 {
		return cloud.ErrThrottled
	}
	a.tokens--
	return nil
}

// finish is called last by every method that took effect. It replaces the answer by an error if a
// test asked for a lost answer.
func (a *Account) finish(op Op, err error) (lost bool, answer error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.faultsLocked(op)
	if len(f.lost) == 0 {
		return false, err
	}
	answer = f.lost[0]
	f.lost = f.lost[1:]
	if answer == nil {
		return false, err
	}
	return true, answer
}

func (a *Account) faultsLocked(op Op) *faults {
	if a.faults[op] == nil {
		a.faults[op] = &faults{}
	}
	return a.faults[op]
}

func (a *Account) record(c Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.At = time.Now()
	a.calls = append(a.calls, c)
}
