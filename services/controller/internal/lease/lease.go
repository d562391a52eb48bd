// Package lease makes sure that only one controller at a time leads a deployment. The lease is an object in
// the deployment's store, which its holder renews. A second controller refuses to start, and its error names
// the first.
package lease

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/blob"
	"cloudmaster/services/controller/internal/driver"
)

// Key is the lease's key in the store.
const Key = "controller/lease"

// DefaultTTL is how long a lease holds without renewal if Options.TTL is 0.
const DefaultTTL = 15 * time.Second

// mostWait bounds one write of the lease, and the pause after one that failed.
const mostWait = 5 * time.Second

// Options of a Lease; the zero value works.
type Options struct {
	TTL time.Duration    // how long it holds without renewal; 0 means DefaultTTL. It is renewed after each third of it
	Now func() time.Time // the clock; nil means time.Now
	// Host and PID name the holder; if they are empty, this process is the holder.
	Host string
	PID  int
}

// ErrHeld means that another controller holds the lease. Errors that wrap it name that controller.
var ErrHeld = errors.New("another controller leads this deployment")

// Holder is the content of the lease.
type Holder struct {
	Host      string    `json:"host"`
	PID       int       `json:"pid"`
	Namespace string    `json:"pid_namespace"` // where PID is valid; containers may share a host name
	Since     time.Time `json:"since"`
	RenewedAt time.Time `json:"renewed_at"`
	// TTLSeconds is how long the holder's lease holds without renewal. Another controller that finds the
	// lease goes by this value and not by its own. 0 means DefaultTTL.
	TTLSeconds float64 `json:"ttl_seconds,omitempty"`
}

// ttl is how long the lease holds from when it was renewed.
func (h *Holder) ttl() time.Duration {
	if !(h.TTLSeconds > 0 && h.TTLSeconds <= mostTTL.Seconds()) { // written so that NaN, too, gives the default
		return DefaultTTL
	}
	return time.Duration(h.TTLSeconds * float64(time.Second))
}

// mostTTL is the longest time that is accepted; anything longer is a mistake.
const mostTTL = time.Hour

// Lease is a held lease.
type Lease struct {
	store   blob.Store
	log     *slog.Logger
	ttl     time.Duration
	now     func() time.Time
	holder  Holder
	version blob.Version

	failures int // renewals in a row that failed

	mu      sync.Mutex
	renewed time.Time // when it was last renewed; guarded by mu
}

// Acquire takes the lease, or returns ErrHeld. A lease can be taken if it has run out, or if its holder was a
// process of this host that has ended.
func Acquire(ctx context.Context, store blob.Store, log *slog.Logger, opts Options) (*Lease, error) {
	ttl := cmp.Or(opts.TTL, DefaultTTL)
	if ttl < 0 || ttl > mostTTL {
		return nil, fmt.Errorf("acquire lease: its time is %s, not above 0 and at most %s", ttl, mostTTL)
	}
	host, err := os.Hostname()
	if err != nil && opts.Host == "" {
		return nil, fmt.Errorf("acquire lease: %w", err)
	}
	clock := opts.Now
	if clock == nil {
		clock = time.Now
	}
	now := clock()
	l := &Lease{store: store, log: log, ttl: ttl, now: clock, holder: Holder{
		Host: cmp.Or(opts.Host, host), PID: cmp.Or(opts.PID, os.Getpid()), Since: now.UTC(), TTLSeconds: ttl.Seconds(),
	}}
	if opts.PID == 0 {
		l.holder.Namespace = namespace()
	}
	old, err := store.Get(ctx, Key, "")
	switch {
	case errors.Is(err, blob.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("acquire lease: %w", err)
	default:
		if l.version, err = l.claim(ctx, old); err != nil {
			return nil, err
		}
		now = clock() // it may have taken its time
		l.holder.Since = now.UTC()
	}
	if err := l.write(ctx, now); err != nil {
		if !errors.Is(err, blob.ErrConflict) {
			return nil, fmt.Errorf("acquire lease: %w", err)
		}
		if err := l.reread(ctx); err != nil {
			return nil, fmt.Errorf("acquire lease: %w", err)
		}
	}
	return l, nil
}

// Free returns nil if no controller holds the lease, and else ErrHeld, wrapped in an error that names the
// holder. It does not take the lease. Where only clocks say that the lease has run out, it takes as long as the lease
// holds without renewal.
func Free(ctx context.Context, store blob.Store, now func() time.Time) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("look at lease: %w", err)
	}
	found, err := store.Get(ctx, Key, "")
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at lease: %w", err)
	}
	l := &Lease{
		store: store, now: now, log: slog.New(slog.DiscardHandler), holder: Holder{
			Host: host, PID: os.Getpid(),
			Namespace: namespace(),
		},
	}
	_, unclear, err := l.refuse(ctx, found, l.now())
	if err == nil && unclear {
		_, err = l.claim(ctx, found) // which watches whether it is renewed, and takes nothing
	}
	return err
}

// claim returns the version of the lease in the store when it may be taken, or why it may not.
//
// Clocks differ, so a lease that looks as if it had run out, or as if it came from the future, may be one that its
// holder renews. That shows in that it changes: it is watched for as long as it holds without renewal.
func (l *Lease) claim(ctx context.Context, old blob.Object) (blob.Version, error) {
	refused := func(err error) error { return fmt.Errorf("%w, or give this one another deployment name", err) }
	h, unclear, err := l.refuse(ctx, old, l.now())
	switch {
	case err != nil:
		return "", refused(err)
	case !unclear:
		return old.Version, nil
	}
	l.log.InfoContext(ctx, "lease is not renewed, as far as clocks tell; waiting whether it is", "host", h.Host,
		"pid", h.PID, "renewed_at", h.RenewedAt, "wait", h.ttl())
	if !backoff.Wait(ctx, h.ttl()) {
		return "", context.Cause(ctx)
	}
	found, err := l.store.Get(ctx, Key, "")
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("acquire lease: %w", err)
	case found.Version == old.Version:
		l.log.InfoContext(ctx, "taking over from a controller that has stopped renewing its lease", "host", h.Host,
			"pid", h.PID, "renewed_at", h.RenewedAt)
		return old.Version, nil
	}
	if h, unclear, err = l.refuse(ctx, found, l.now()); err == nil && unclear {
		err = l.held(h, l.now()) // it is renewed, by another clock
	}
	if err != nil {
		return "", refused(err)
	}
	return found.Version, nil // it was given back
}

// refuse returns ErrHeld if the lease that was found is in force. unclear says that only clocks speak against that.
func (l *Lease) refuse(ctx context.Context, old blob.Object, now time.Time) (h Holder, unclear bool, err error) {
	if err := json.Unmarshal(old.Data, &h); err != nil {
		l.log.WarnContext(ctx, "lease is damaged; taking it over", "error", err)
		return h, false, nil
	}
	if h.RenewedAt.IsZero() {
		return h, false, nil // it was given back
	}
	if l.dead(h) {
		l.log.InfoContext(ctx, "taking over from a controller that has ended", "pid", h.PID)
		return h, false, nil
	}
	if age := now.Sub(h.RenewedAt); age > h.ttl() || age < -h.ttl() {
		return h, true, nil
	}
	return h, false, l.held(h, now)
}

// held is ErrHeld with the holder's name.
func (l *Lease) held(h Holder, now time.Time) error {
	return fmt.Errorf("%w: process %d on %s, since %s, renewed %s ago. Stop it first; if it is gone, wait until its "+
		"lease runs out at %s",
		ErrHeld, h.PID, h.Host, h.Since.Format(time.RFC3339), now.Sub(h.RenewedAt).Round(time.Second),
		h.RenewedAt.Add(h.ttl()).Format(time.TimeOnly))
}

// dead reports whether a holder has certainly ended: its process id is in use by nobody, or by this process.
func (l *Lease) dead(h Holder) bool {
	if h.Host != l.holder.Host || h.Namespace == "" || h.Namespace != l.holder.Namespace {
		return false
	}
	return h.PID == l.holder.PID || errors.Is(syscall.Kill(h.PID, 0), syscall.ESRCH) || zombie(h.PID)
}

// zombie reports whether a process has ended and only waits for its parent to collect its exit status.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	end := bytes.LastIndexByte(stat, ')') // the end of the program's name, which may itself contain brackets
	return end >= 0 && bytes.HasPrefix(bytes.TrimLeft(stat[end+1:], " "), []byte("Z"))
}

// namespace identifies where process ids are valid: this boot of this machine, and in it the PID namespace,
// whose own name is the same on all machines. It is empty if the system does not tell.
func namespace() string {
	id, err := os.Readlink("/proc/self/ns/pid")
	boot, errBoot := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || errBoot != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + id
}

func (l *Lease) write(ctx context.Context, now time.Time) error {
	l.holder.RenewedAt = now.UTC()
	data, err := json.Marshal(l.holder)
	if err != nil {
		return err
	}
	version, err := l.store.Put(ctx, Key, data, l.version)
	if err != nil {
		return err
	}
	l.version = version
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed = now
	return nil
}

// Task renews the lease in time, and gives it back when the task is stopped. It fails with ErrHeld if another
// controller has taken the lease because this one did not renew it in time. It does not fail if the store
// cannot be reached; then Check says when this controller must stop acting.
func (l *Lease) Task() driver.Task {
	first := l.now().Add(l.ttl / 3) // it was written when it was acquired
	return driver.Task{
		Name: "lease", Stopped: l.release,
		Step: func(ctx context.Context, now time.Time) (driver.Again, error) {
			if now.Before(first) {
				return driver.Again{At: first}, nil
			}
			return l.step(ctx)
		},
	}
}

// step renews the lease once.
func (l *Lease) step(ctx context.Context) (driver.Again, error) {
	renewed, err := l.renew(ctx)
	if ctx.Err() == nil && errors.Is(err, ErrHeld) {
		return driver.Again{}, err
	}
	pause := l.ttl / 3
	switch {
	case renewed && l.failures > 0:
		l.log.InfoContext(ctx, "lease is renewed again", "failures", l.failures)
		l.failures = 0
	case !renewed:
		if l.failures++; l.failures == 1 && ctx.Err() == nil {
			l.log.WarnContext(ctx, "lease could not be renewed; trying again", "error", err, "holds_until", l.until())
		}
		pause = min(pause, mostWait)
	}
	return driver.Again{At: l.now().Add(pause)}, nil
}

// renew reports whether it has renewed the lease. ErrHeld means that another controller has taken it. After
// any other error it is not known whether the renewal was written.
func (l *Lease) renew(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, mostWait)
	defer cancel()
	err := l.write(ctx, l.now())
	if !errors.Is(err, blob.ErrConflict) {
		return err == nil, err
	}
	// Another controller has taken it, or an earlier renewal was written although its answer was lost.
	if err := l.reread(ctx); err != nil {
		return false, err
	}
	err = l.write(ctx, l.now())
	if errors.Is(err, blob.ErrConflict) { // the request was sent twice, and the first one was written
		err = l.reread(ctx)
	}
	return err == nil, err
}

// until returns when this controller must take the lease as run out unless it renews it. That is somewhat
// earlier than for other controllers, whose clocks may be ahead.
func (l *Lease) until() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renewed.Add(l.ttl - l.ttl/10)
}

// ErrExpired means that the lease could not be renewed in time.
var ErrExpired = errors.New("the lease has run out and cannot be renewed: another controller may lead by now, so " +
	"this one neither starts nor stops anything")

// Lead returns until when this controller may act, unless the lease is renewed, or ErrExpired if another controller
// may hold it at the given time. It is asked before every act, and no act may take longer.
func (l *Lease) Lead(now time.Time) (until time.Time, err error) {
	until = l.until()
	// The wall clock is compared too, because the monotonic clock stands still while the machine sleeps.
	if now.After(until) || now.Round(0).After(until.Round(0)) {
		return time.Time{}, ErrExpired
	}
	return until, nil
}

// Check returns ErrExpired if another controller may hold the lease at the given time.
func (l *Lease) Check(now time.Time) error {
	_, err := l.Lead(now)
	return err
}

// reread looks at the lease in the store. If it is this controller's own, because the store has written what
// it did not confirm, its version is taken over. Otherwise reread returns ErrHeld, wrapped in an error that
// names the holder.
func (l *Lease) reread(ctx context.Context) error {
	now, err := l.store.Get(ctx, Key, "")
	if errors.Is(err, blob.ErrNotFound) { // somebody has deleted it
		l.version = ""
		return l.write(ctx, l.now())
	}
	if err != nil {
		return err
	}
	var h Holder
	if json.Unmarshal(now.Data, &h) == nil && h.Host == l.holder.Host && h.PID == l.holder.PID &&
		h.Since.Equal(l.holder.Since) {
		l.version = now.Version
		l.mu.Lock()
		defer l.mu.Unlock()
		l.renewed = h.RenewedAt
		return nil
	}
	return fmt.Errorf("%w: process %d on %s took the lease over", ErrHeld, h.PID, h.Host)
}

// release gives the lease back, so that the next controller need not wait until it runs out.
func (l *Lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mostWait)
	defer cancel()
	if err := l.write(ctx, time.Time{}); err != nil {
		l.log.WarnContext(ctx, "lease could not be given back; the next controller must wait until it runs out",
			"error", err)
	}
}
