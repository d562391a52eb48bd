package ec2cloud

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

const (
	// seenFor is longer than EC2 shows an instance that has ended.
	seenFor = 2 * time.Hour
	// freshFor is how long an instance counts as running after a list has shown it: a few lists long, as one of them
	// may fail or lack it.
	freshFor = 5 * time.Minute
)

// sight is what is known of an instance of ours.
type sight struct {
	last   time.Time // when it was seen
	pool   pool.Name
	kind   string
	subnet string
	spot   bool
	runs   bool // or begins to
}

// sights are the instances that are known as ours.
type sights map[pool.InstanceID]sight

// note notes an instance that EC2 has shown.
func (s sights) note(in *types.Instance, out *cloud.Instance, now time.Time) {
	if out.Phase == cloud.Terminated { // nobody asks for anything of those
		if at, found := s[out.ID]; found {
			at.runs = false
			s[out.ID] = at
		}
		return
	}
	s[out.ID] = sight{
		last: now, pool: pool.Name(out.Tags[cloud.TagPool]),
		kind: out.Type, subnet: aws.ToString(in.SubnetId), spot: out.Spot,
		runs: out.Phase == cloud.Pending || out.Phase == cloud.Running,
	}
}

// expire forgets instances that were not seen for long.
func (s sights) expire(now time.Time) {
	for id, at := range s {
		if now.Sub(at.last) > seenFor {
			delete(s, id)
		}
	}
}

// of returns the instances of a pool that run.
func (s sights) of(name pool.Name, now time.Time) (out []sight) {
	for _, at := range s {
		if at.pool == name && at.runs && now.Sub(at.last) < freshFor {
			out = append(out, at)
		}
	}
	return out
}
