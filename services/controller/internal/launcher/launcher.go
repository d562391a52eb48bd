// Package launcher starts the instances of one pool. It makes no launch twice: a launch whose answer was lost
// is asked for again with the same token, and launches that another controller has made shortly before are
// waited for. It remembers what it has asked for, and pauses after failures.
package launcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/record"
)

// Store is where the launch journal is kept.
type Store interface {
	Get(ctx context.Context, key string, have blob.Version) (blob.Object, error)
	Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error)
}

// provider is the part of a cloud that launches.
type provider interface {
	Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error)
}

const (
	// callTimeout bounds how long a pass waits for the store, and launchTimeout how long it waits for the
	// cloud.
	callTimeout, launchTimeout = 5 * time.Second, 30 * time.Second
	// firstPause is the pause after a launch that failed. It doubles up to Options.MostPause.
	firstPause = time.Second
)

// Options of a Launcher.
type Options struct {
	Pool      pool.Name
	Image     string
	UserData  func(pool.InstanceID) ([]byte, error)
	Login     func(pool.InstanceID) ([]byte, error) // see cloud.Spec.Login
	Version   string                                // what instances are launched as; empty: nothing says it
	ListLag   time.Duration                         // how far the cloud's lists may be behind
	MostPause time.Duration                         // the longest pause after launches that failed
	Now       func() time.Time                      // the clock
	Token     func() string                         // random text, different each time
}

// Launcher launches for one pool. It is used by one goroutine.
type Launcher struct {
	opts    Options
	cloud   provider
	journal journal
	open    intent
	deaths  deaths
}

// intent is a launch that is wanted. Its token stays the same until the cloud has answered, so that a launch
// whose answer was lost is asked for again and not made twice.
type intent struct {
	token   string
	machine machine
	state   pool.State // in which the instances begin
	at      time.Time  // when it was first asked for; a request with the same token must repeat it
	first   time.Time  // when the cloud was first asked; zero: not yet
	// certain is from when on a list shows what the launch has started, even if the last call for it took effect at the
	// very end of its time.
	certain time.Time
	count   int
	started []pool.InstanceID // the instances that answers have named so far
	unknown bool              // an attempt had no answer, so it may have taken effect

	// Of the last attempts, including those with earlier tokens:
	failures  int
	notBefore time.Time
	err       error
}

// machine is how instances are made.
type machine struct {
	image    string
	userData func(pool.InstanceID) ([]byte, error)
	login    func(pool.InstanceID) ([]byte, error)
	version  string
	surge    bool // see Request.Surge
}

// New returns a launcher.
func New(c provider, store Store, opts Options) *Launcher {
	return &Launcher{opts: opts, cloud: c, journal: newJournal(opts.Pool, store, opts.ListLag, opts.Token)}
}

// Change makes later launches use another image, other user data, logins and version, and another longest pause. The
// other options stay. A launch that has not been answered is repeated as it was first asked for, because the cloud
// knows it by its token and refuses the same token with anything else.
func (l *Launcher) Change(to Options) {
	l.opts.Image, l.opts.UserData, l.opts.Login, l.opts.MostPause = to.Image, to.UserData, to.Login, to.MostPause
	l.opts.Version = to.Version
	l.deaths.before = time.Time{} // somebody may have corrected what they died of: one is tried at once
}

// Load reads which instances another controller has launched shortly before. Only the first call that
// succeeds reads anything.
func (l *Launcher) Load(ctx context.Context, now time.Time) error { return l.journal.load(ctx, now) }

// Observe forgets the launches that a list of the pool's instances shows, or that are so old that it would
// show them. The list was asked for at the given time.
func (l *Launcher) Observe(list []cloud.Instance, at time.Time) {
	if l.journal.on {
		l.journal.expire(list, at)
	}
	if l.Open() != "" && at.After(l.open.certain) {
		l.open.token = ""
	}
}

// Open returns the token of a launch of which it is not known whether it took effect; empty if there is none.
func (l *Launcher) Open() string {
	if l.open.first.IsZero() {
		return ""
	}
	return l.open.token
}

// Wait returns why launches must wait; nil if they need not.
func (l *Launcher) Wait() *record.Wait {
	e, found := l.journal.pending()
	if !l.journal.on || !found {
		return nil
	}
	return &record.Wait{Token: e.Token, Count: e.Count, At: e.At, Until: l.journal.certain(e)}
}

// Next returns when a launch that failed, or was put off, may be tried again; zero if there is none.
func (l *Launcher) Next() time.Time { return latest(l.open.notBefore, l.deaths.before) }

// Request is what a pass wants launched.
type Request struct {
	Count   int
	Present int // instances in any state, without those that the cloud has accepted to end
	Maximum int // of the pool
	// State is in which the instances begin; the zero value means pool.Startup. A launch that is repeated keeps the
	// first one.
	State pool.State
	// Surge: the instances are to take the place of outdated ones (cloud.TagSurge). A launch that has not been answered
	// is repeated as it was first asked for.
	Surge bool
}

// Launch asks the cloud for instances and returns them, together with what a record says of the attempt,
// which is nil if the cloud was not asked.
func (l *Launcher) Launch(ctx context.Context, want Request) ([]cloud.Instance, *record.Launch, error) {
	now := l.opts.Now()
	if now.Before(l.open.notBefore) {
		return nil, nil, l.open.err
	}
	if err := l.intend(want, now); err != nil {
		return nil, nil, err
	}
	if err := l.journal.write(ctx, entry{Token: l.open.token, Count: l.open.count, At: now.UTC()}); err != nil {
		return nil, nil, l.unwritten(err)
	}
	said := &record.Launch{Token: l.open.token, Asked: l.open.count, Again: !l.open.first.IsZero()}
	launched, err := l.call(ctx)
	l.deaths.rest(l.opts.Now()) // the next one waits for what becomes of these
	told := l.open.started      // what earlier answers to the same launch have named
	for i := range launched {
		if id := launched[i].ID; !slices.Contains(told, id) {
			l.open.started = append(l.open.started, id)
			said.Started = append(said.Started, id)
		}
	}
	err = l.settle(err, l.opts.Now())
	if err != nil {
		said.Error, said.Reason, said.Open = err.Error(), Reason(err), l.Open() != ""
	}
	return launched, said, err
}

// intend decides which launch to ask for: one that has not been answered, again, or a new one. It refuses if
// that would be more than is wanted now, or would lead past the maximum.
func (l *Launcher) intend(want Request, now time.Time) error {
	open := l.open.token != ""
	if open && l.open.exhausted(now, l.opts.ListLag) {
		return fmt.Errorf("launch %d instances: lists must show first whether a launch of %d took effect: %w",
			want.Count, l.open.count, l.open.err)
	}
	count, err := l.deaths.check(want.Count, now)
	if open {
		count, err = l.open.count-len(l.open.started), nil
	}
	if err != nil {
		return err
	}
	if count > want.Count {
		return fmt.Errorf("launch %d instances: it is not known yet whether a launch of %d took effect: %w",
			want.Count, l.open.count, l.open.err)
	}
	// Instances that were to make room may still be there if the cloud has not accepted to end them.
	if want.Present+count > want.Maximum {
		return fmt.Errorf("launch %d instances: there are still %d, and the maximum is %d", count, want.Present,
			want.Maximum)
	}
	if !open {
		l.open = intent{
			token: l.journal.token(), machine: l.machine(want.Surge), at: now,
			count: count, failures: l.open.failures, state: cmp.Or(want.State, pool.Startup),
		}
	}
	return nil
}

func (l *Launcher) machine(surge bool) machine {
	return machine{
		image: l.opts.Image, userData: l.opts.UserData, login: l.opts.Login, version: l.opts.Version, surge: surge,
	}
}

// unwritten puts off a launch that could not be written to the journal. If the cloud was never asked for it,
// it is forgotten, so that nothing waits for its answer.
func (l *Launcher) unwritten(err error) error {
	err = fmt.Errorf("launch %d instances: %w", l.open.count, err)
	if l.open.first.IsZero() {
		l.open.token = ""
	}
	return err
}

// exhausted reports whether a launch was asked for often enough. The cloud may never answer it, so it is not asked
// again until lists show what came of it, and then a new launch with a new token is possible.
func (i *intent) exhausted(now time.Time, lag time.Duration) bool {
	return !i.first.IsZero() && now.Sub(i.first) > launchTimeout+lag
}

func (l *Launcher) call(ctx context.Context) ([]cloud.Instance, error) {
	asked := l.opts.Now()
	if l.open.first.IsZero() {
		l.open.first = asked
	}
	defer func() { // it may take effect as long as it might have lasted, and as long as it has
		l.open.certain = latest(asked.Add(launchTimeout), l.opts.Now()).Add(l.opts.ListLag)
	}()
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	return l.cloud.Launch(ctx, cloud.Spec{
		Token: l.open.token, Count: l.open.count, Image: l.open.machine.image, UserData: l.open.machine.userData,
		Login: l.open.machine.login,
		Tags:  l.tags(),
	})
}

// tags returns the tags of the instances of the launch that is asked for.
func (l *Launcher) tags() map[string]string {
	tags := map[string]string{
		cloud.TagPool: string(l.opts.Pool), cloud.TagState: l.open.state.String(),
		cloud.TagStateSince: l.open.at.UTC().Format(time.RFC3339Nano), cloud.TagLaunch: l.open.token,
	}
	if l.open.machine.version != "" {
		tags[cloud.TagVersion] = l.open.machine.version
	}
	if l.open.machine.surge {
		tags[cloud.TagSurge] = "true"
	}
	return tags
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// settle forgets the launch when the cloud has carried it out or refused it. After any other error it may or may not
// have taken effect, so its token stays, also if a later attempt is refused.
func (l *Launcher) settle(err error, now time.Time) error {
	if err == nil {
		l.open = intent{}
		return nil
	}
	switch {
	case !cloud.Refused(err):
		l.open.unknown = true
	case !l.open.unknown: // else an attempt before this one may have taken effect, although this one was refused
		l.open.token = ""
	}
	l.open.failures++
	l.open.notBefore = now.Add(min(firstPause<<min(l.open.failures-1, 10), l.opts.MostPause))
	l.open.err = fmt.Errorf("launch %d instances: %w", l.open.count, err)
	return l.open.err
}

// Reason returns why a launch failed as a label of metrics.
func Reason(err error) string {
	for _, c := range []struct {
		err  error
		name string
	}{
		{cloud.ErrCapacity, "capacity"},
		{cloud.ErrThrottled, "throttled"},
		{cloud.ErrDenied, "denied"},
		{cloud.ErrNotFound, "not_found"},
		{cloud.ErrInvalid, "invalid"},
		{cloud.ErrConflict, "conflict"},
		{cloud.ErrNotAsked, "not_asked"},
	} {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "other"
}
