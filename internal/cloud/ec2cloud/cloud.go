// Package ec2cloud is the EC2 adapter of the cloud port.
//
// # What is ours
//
// Instances and their volumes carry the tag cloudmaster:deployment from their first moment. Before an instance
// is tagged or ended that this value has not seen with that tag, in a list or a launch, it is looked up.
// Instances of others are left alone.
//
// # Launching
//
// A launch asks for all instances in the first subnet. If there is no capacity, it asks in the next one, and
// so on. If none has room for all, and several are wanted, it goes through the subnets once more and takes as
// many as the first one that has any room gives. Each of these requests has a client token of its own, made
// from the launch's token, so that EC2 starts nothing twice. When a launch is repeated with its token, the
// request that started something, or whose answer was lost, is made first. Only this value remembers which
// request that was: a value that is opened later asks in order, and if capacity has come back in an earlier
// subnet meanwhile, it launches there as well.
//
// # Images
//
// An image is an id (ami-…), an SSM parameter that holds one (ssm:/path), or a name. A name may contain * and ?
// as EC2 understands them, and means the newest available image of that name. The id that a parameter or
// name stands for is remembered for a minute.
//
// # Lists
//
// Lists lag behind launches and terminations by seconds. The Address of an instance is its private one, or, if its
// pool says so, the public one; in subnets that give no public one it is the private one all the same.
package ec2cloud

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Cloud is EC2 in one region, as one deployment sees it. Make it with Open.
type Cloud struct {
	client     *ec2.Client
	params     *ssm.Client
	deployment string
	opts       Options
	log        *slog.Logger
	now        func() time.Time

	mu       sync.Mutex
	seen     map[pool.InstanceID]time.Time // instances known as ours, and when last seen so; guarded by mu
	images   map[string]resolved           // by name; guarded by mu
	groups   map[string]string             // ids of security groups by name; guarded by mu
	attempts attempts                      // guarded by mu
}

var _ cloud.Opened = (*Cloud)(nil)

// seenFor is longer than EC2 shows an instance that has ended.
const seenFor = 2 * time.Hour

// Open returns the deployment's view of EC2 in cfg's region. An empty deployment is called "default".
// Open does not use the network.
func Open(ctx context.Context, cfg aws.Config, deployment string, opts Options) (*Cloud, error) {
	if err := done(ctx); err != nil {
		return nil, fmt.Errorf("open EC2 cloud: %w", err)
	}
	deployment = cmp.Or(deployment, DefaultDeployment)
	opts, err := opts.withDefaults(deployment)
	if err != nil {
		return nil, fmt.Errorf("open EC2 cloud: %w", err)
	}
	return &Cloud{
		client: ec2.NewFromConfig(cfg, func(o *ec2.Options) {
			if r, ok := o.Retryer.(aws.RetryerV2); ok {
				o.Retryer = choosy{r}
			}
		}),
		params:     ssm.NewFromConfig(cfg),
		deployment: deployment, opts: opts, log: opts.Log.With("deployment", deployment), now: time.Now,
		seen:   make(map[pool.InstanceID]time.Time),
		images: make(map[string]resolved),
		groups: make(map[string]string),
	}, nil
}

// Close implements cloud.Opened. There is nothing to close: every call stands for itself.
func (*Cloud) Close() error { return nil }

// saw notes instances as ours.
func (c *Cloud) saw(list []cloud.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for i := range list {
		if list[i].Phase != cloud.Terminated { // nobody asks for anything of those
			c.seen[list[i].ID] = now
		}
	}
	for id, last := range c.seen {
		if now.Sub(last) > seenFor {
			delete(c.seen, id)
		}
	}
}

// unseen returns which of ids are not known as ours.
func (c *Cloud) unseen(ids []pool.InstanceID) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, id := range ids {
		if _, ok := c.seen[id]; !ok {
			out = append(out, string(id))
		}
	}
	return out
}
