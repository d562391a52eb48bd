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
// A pool may have several instance types and subnets, and two markets. Each combination is a choice. A launch asks for
// all instances by the first choice. If EC2 refuses, it asks by the next one, and so on. If none has room for all, and
// several are wanted, it goes through the choices once more and takes as many as the first one that has any room gives.
// A choice that had no capacity is not asked again for three minutes, by no pool, unless an instance of ours was ended
// meanwhile, which may have made room. A choice that is refused as wrong (a type that does not exist, a subnet that was
// deleted) is warned of, and tried after the others from then on. A launch tries four wrong ones of a market at most.
//
// If the pool is to be level over its subnets, or only a share of it is to be spot instances, a launch of several
// instances is divided into parts, each of which is asked for like that.
//
// Each request has a client token of its own, made from the launch's token, so that EC2 starts nothing twice. When a
// launch is repeated with its token, it is divided as before, and of each part the request that started something, or
// whose answer was lost, is made first. Only this value remembers which request that was: a value that is opened later
// asks in order, and if capacity has come back for an earlier choice meanwhile, it launches there as well.
//
// RunInstances is used and not CreateFleet. A fleet chooses among types by itself, but needs a launch template with the
// user data of each pool, which would have to be written anew whenever a pool's settings change, and names only one
// error when it can make nothing.
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
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"golang.org/x/time/rate"

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

	rate *rate.Limiter // of requests to launch

	mu       sync.Mutex
	seen     sights                        // guarded by mu
	images   map[string]resolved           // by name; guarded by mu
	groups   map[string]string             // ids of security groups by name; guarded by mu
	roots    map[string]string             // names of root devices by the images' ids; guarded by mu
	archs    map[string]string             // of instance types, as in names of images; guarded by mu
	plans    memory[[]part]                // of launches, by their tokens; guarded by mu
	attempts memory[attempt]               // of parts of launches; guarded by mu
	rests    rests                         // guarded by mu
	failing  map[pool.InstanceID]time.Time // when checks first failed; guarded by mu
	faults   map[choice]bool               // that EC2 refused as wrong, and whether that was told; guarded by mu
}

var _ cloud.Opened = (*Cloud)(nil)

// EC2 lets an account make so many requests to launch at once, and so many more a second, in each region. All that is
// above that fails, also for others who use the account. Source: Amazon EC2 Developer Guide, "Request throttling for
// the Amazon EC2 API", request token bucket of RunInstances.
const launchBurst, launchRate = 5, 2

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
		rate: rate.NewLimiter(launchRate, launchBurst),
		seen: make(sights), images: make(map[string]resolved), groups: make(map[string]string),
		roots: make(map[string]string), archs: make(map[string]string), faults: make(map[choice]bool),
	}, nil
}

// Close implements cloud.Opened. There is nothing to close: every call stands for itself.
func (*Cloud) Close() error { return nil }

// saw returns instances of EC2 in the port's words, and notes them as ours.
func (c *Cloud) saw(list []types.Instance) []cloud.Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, now := make([]cloud.Instance, len(list)), c.now()
	for i := range list {
		out[i] = c.instance(&list[i])
		c.seen.note(&list[i], &out[i], now)
	}
	return out
}

// expireSights forgets instances that were not seen for long.
func (c *Cloud) expireSights() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.expire(c.now())
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
