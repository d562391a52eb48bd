// Package memcloud is a cloud in memory, which stands for EC2 in tests and simulations. Options and
// faults make it as difficult as the real one: it can boot slowly, list late, end slowly, run out
// of room, throttle, fail, and lose answers and instances.
//
// An Account has the instances of all deployments; Account.Cloud returns the port to one of them.
// Ids are i-000001, i-000002, … in the order of launch.
//
// Time is the plain clock, so that tests can use the fake one of a testing/synctest bubble. Nothing
// runs in the background: the phase of an instance is computed when somebody looks. The only
// exception is one timer per launch if Options.OnRunning is given.
//
// Tokens are remembered for as long as the Account lives. As on EC2, a token that is used again
// with other user data is a conflict (but not with KnowsIDs, where the user data differ by
// instance), and a launch that started nothing leaves its token unused.
package memcloud

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Account is a whole cloud: the instances of all deployments, with the means by which tests control it.
type Account struct {
	mu       sync.Mutex
	opts     Options                       // Capacity is guarded by mu, the rest never changes
	launched int                           // how many instances were ever launched; guarded by mu
	present  []*instance                   // the instances that a list may still show; guarded by mu
	byID     map[pool.InstanceID]*instance // all instances that ever existed; guarded by mu
	tokens   float64                       // left in the bucket that limits calls; guarded by mu
	filled   time.Time                     // when tokens was last computed; guarded by mu
	launches map[launchKey]*launch         // guarded by mu
	faults   map[Op]*faults                // guarded by mu
	calls    []Call                        // guarded by mu
}

type launchKey struct{ deployment, token string }

// launch is what is remembered of the launch with one token.
type launch struct {
	image   string
	count   int
	tags    map[string]string
	doc     []byte // the user data; nil with KnowsIDs
	started []*instance
}

// New returns an empty cloud.
func New(opts Options) (*Account, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("new memory cloud: %w", err)
	}
	opts.Images = slices.Clone(opts.Images)
	return &Account{
		opts: opts, tokens: float64(opts.CallBurst), filled: time.Now(),
		byID: map[pool.InstanceID]*instance{}, launches: map[launchKey]*launch{}, faults: map[Op]*faults{},
	}, nil
}

// Cloud is the port to one deployment of an Account.
type Cloud struct {
	account    *Account
	deployment string
}

var _ cloud.Cloud = (*Cloud)(nil)

// Cloud returns the port to the deployment. All values for one deployment behave the same.
func (a *Account) Cloud(deployment string) *Cloud {
	return &Cloud{account: a, deployment: deployment}
}

// Launch implements cloud.Cloud.
func (c *Cloud) Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	a := c.account
	var out []cloud.Instance
	var lost bool
	err := a.begin(ctx, OpLaunch)
	if err == nil {
		out, err = c.launch(&spec)
		lost, err = a.finish(OpLaunch, err)
	}
	call := Call{
		Op: OpLaunch, Deployment: c.deployment, Token: spec.Token, Asked: spec.Count, Tags: maps.Clone(spec.Tags),
		Err: err,
	}
	for _, in := range out {
		call.IDs = append(call.IDs, in.ID)
	}
	a.record(call)
	if lost {
		out = nil
	}
	if err != nil {
		err = fmt.Errorf("launch %d of image %q: %w", spec.Count, spec.Image, err)
	}
	return out, err
}

func (c *Cloud) launch(spec *cloud.Spec) ([]cloud.Instance, error) {
	a := c.account
	if err := a.check(spec); err != nil {
		return nil, err
	}
	if spec.Login != nil {
		return nil, cloud.ErrNoLogins
	}
	var shared []byte
	if !a.opts.KnowsIDs {
		var err error
		if shared, err = userData(spec, ""); err != nil {
			return nil, err
		}
	}
	out, fresh, err := c.launchOnce(time.Now(), spec, shared)
	a.tell(a.opts.OnLaunch, fresh)
	a.boot(fresh)
	return out, err
}

func userData(spec *cloud.Spec, id pool.InstanceID) ([]byte, error) {
	if spec.UserData == nil {
		return nil, nil
	}
	doc, err := spec.UserData(id)
	if err != nil {
		return nil, fmt.Errorf("user data: %w", err)
	}
	if len(doc) > cloud.MaxUserData {
		return nil, fmt.Errorf("%w: user data of %d bytes, the most is %d",
			cloud.ErrInvalid, len(doc), cloud.MaxUserData)
	}
	return doc, nil
}

// launchOnce launches, or finds what the token has launched before. fresh is the part of all that
// was started now. It calls spec.UserData while it has the lock, so that function must not call the cloud.
func (c *Cloud) launchOnce(now time.Time, spec *cloud.Spec, shared []byte) (all, fresh []cloud.Instance, err error) {
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	key := launchKey{c.deployment, spec.Token}
	l, known := a.launches[key]
	switch {
	case known && !l.matches(spec, shared):
		return nil, nil, fmt.Errorf("%w: token %q was used with other parameters", cloud.ErrConflict, spec.Token)
	case known:
		all = l.tell(now)
	default:
		l = &launch{image: spec.Image, count: spec.Count, tags: maps.Clone(spec.Tags), doc: shared}
		if err := c.startLocked(now, spec, l); err != nil {
			return nil, nil, err
		}
		if len(l.started) > 0 {
			a.launches[key] = l
		}
		all = l.tell(now)
		fresh = all
	}
	if len(l.started) < l.count {
		err = fmt.Errorf("%w: %d were started", cloud.ErrCapacity, len(l.started))
	}
	return all, fresh, err
}

func (l *launch) matches(spec *cloud.Spec, shared []byte) bool {
	return l.image == spec.Image && l.count == spec.Count && maps.Equal(l.tags, spec.Tags) && bytes.Equal(l.doc, shared)
}

func (l *launch) tell(now time.Time) []cloud.Instance {
	out := make([]cloud.Instance, len(l.started))
	for i, in := range l.started {
		out[i] = in.tellNow(now)
	}
	return out
}

// startLocked starts as many of the launch's instances as there is room for.
func (c *Cloud) startLocked(now time.Time, spec *cloud.Spec, l *launch) error {
	a := c.account
	n := spec.Count
	if a.opts.Capacity > 0 {
		n = max(0, min(n, a.opts.Capacity-a.usedLocked(now)))
	}
	ids, docs := make([]pool.InstanceID, n), make([][]byte, n)
	for i := range n {
		ids[i] = pool.InstanceID(fmt.Sprintf("i-%06d", a.launched+i+1))
		docs[i] = l.doc
		if a.opts.KnowsIDs {
			var err error
			if docs[i], err = userData(spec, ids[i]); err != nil {
				return err
			}
		}
	}
	for i := range n {
		l.started = append(l.started, a.addLocked(now, spec, c.deployment, ids[i], docs[i]))
	}
	return nil
}

// List implements cloud.Cloud. It returns the instances as they were Options.ListLag ago, but with
// their present tags.
func (c *Cloud) List(ctx context.Context) ([]cloud.Instance, error) {
	out, err := c.list(ctx)
	c.account.record(Call{Op: OpList, Deployment: c.deployment, Err: err})
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	return out, nil
}

func (c *Cloud) list(ctx context.Context) ([]cloud.Instance, error) {
	a := c.account
	if err := a.begin(ctx, OpList); err != nil {
		return nil, err
	}
	a.mu.Lock()
	now := time.Now()
	a.forgetLocked(now)
	out := a.viewLocked(now.Add(-a.opts.ListLag), c.owns)
	a.mu.Unlock()
	_, err := a.finish(OpList, nil)
	return out, err
}

func (c *Cloud) owns(in *instance) bool { return in.Tags[cloud.TagDeployment] == c.deployment }

// Tag implements cloud.Cloud. It tags either all of the instances or none.
func (c *Cloud) Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error {
	a := c.account
	err := a.begin(ctx, OpTag)
	if err == nil {
		_, err = a.finish(OpTag, c.tag(tags, ids))
	}
	a.record(Call{Op: OpTag, Deployment: c.deployment, IDs: slices.Clone(ids), Tags: maps.Clone(tags), Err: err})
	if err != nil {
		return fmt.Errorf("tag %d instances: %w", len(ids), err)
	}
	return nil
}

func (c *Cloud) tag(tags map[string]string, ids []pool.InstanceID) error {
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, id := range ids {
		if in, ok := a.byID[id]; !ok || !c.owns(in) || in.over(now) {
			return fmt.Errorf("%w: instance %s", cloud.ErrNotFound, id)
		}
	}
	for _, id := range ids {
		maps.Copy(a.byID[id].Tags, tags)
		a.byID[id].Tags[cloud.TagDeployment] = c.deployment
	}
	return nil
}

// Terminate implements cloud.Cloud.
func (c *Cloud) Terminate(ctx context.Context, ids ...pool.InstanceID) error {
	a := c.account
	err := a.begin(ctx, OpTerminate)
	if err == nil {
		a.mu.Lock()
		ended := a.endLocked(time.Now(), a.opts.TerminateDelay, func(in *instance) bool {
			return c.owns(in) && slices.Contains(ids, in.ID)
		})
		a.mu.Unlock()
		a.tell(a.opts.OnTerminate, ended)
		_, err = a.finish(OpTerminate, nil)
	}
	a.record(Call{Op: OpTerminate, Deployment: c.deployment, IDs: slices.Clone(ids), Err: err})
	if err != nil {
		return fmt.Errorf("terminate %d instances: %w", len(ids), err)
	}
	return nil
}
