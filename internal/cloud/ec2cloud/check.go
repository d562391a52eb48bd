package ec2cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// impairedFor is how long after a look that found an instance impaired another one must find it so again, until it
// counts as about to end: a check may fail for a moment, and looks may follow each other within seconds.
const impairedFor = 4 * time.Minute

// The events that are scheduled for instances, and whether they end them. Source: EC2 User Guide, "Scheduled events for
// your instances". An instance that ends is replaced as soon as that is known, however far off its date is: EC2 retires
// and stops machines whose hardware fails, so they may be gone before.
var scheduled = map[types.EventCode]cloud.Saying{
	types.EventCodeInstanceRetirement: cloud.Ends,
	types.EventCodeInstanceStop:       cloud.Ends,
	types.EventCodeInstanceReboot:     cloud.Noted,
	types.EventCodeSystemReboot:       cloud.Noted,
	types.EventCodeSystemMaintenance:  cloud.Noted,
}

// over begins the description of scheduled events that are described although they are not to come any more. Source:
// EC2 API Reference, InstanceStatusEvent.
var over = []string{"[Completed]", "[Canceled]"}

var _ cloud.Checker = (*Cloud)(nil)

// Check implements cloud.Checker: it returns the instances of the deployment for which an end or a reboot is scheduled,
// and those whose status checks failed at two looks, at least 4 minutes apart. It makes three calls, because the
// filters of one are joined by and. Only instances are returned that a list or a launch has shown before.
func (c *Cloud) Check(ctx context.Context) ([]cloud.Event, error) {
	codes := make([]string, 0, len(scheduled))
	for _, code := range slices.Sorted(maps.Keys(scheduled)) {
		codes = append(codes, string(code))
	}
	planned, err := c.statuses(ctx, filter("event.code", codes...))
	if err != nil {
		return nil, fmt.Errorf("look at scheduled events: %w", err)
	}
	var out []cloud.Event
	for i := range planned {
		out = append(out, plannedFor(&planned[i])...)
	}
	bad := string(types.SummaryStatusImpaired)
	system, errSystem := c.statuses(ctx, filter("system-status.status", bad))
	instance, errInstance := c.statuses(ctx, filter("instance-status.status", bad))
	if err := errors.Join(errSystem, errInstance); err != nil { // what is not seen is not known to be well
		return out, fmt.Errorf("look at status checks: %w", err)
	}
	return append(out, c.impaired(failures(system, instance))...), nil
}

// statuses returns the statuses of the deployment's running instances that pass a filter.
func (c *Cloud) statuses(ctx context.Context, f types.Filter) ([]types.InstanceStatus, error) {
	pages := ec2.NewDescribeInstanceStatusPaginator(c.client, &ec2.DescribeInstanceStatusInput{
		Filters: []types.Filter{f}, MaxResults: aws.Int32(pageSize),
	})
	var out []types.InstanceStatus
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, classify(err)
		}
		for _, s := range page.InstanceStatuses {
			if len(c.unseen([]pool.InstanceID{pool.InstanceID(aws.ToString(s.InstanceId))})) == 0 {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// plannedFor returns what is scheduled for an instance.
func plannedFor(s *types.InstanceStatus) (out []cloud.Event) {
	for i := range s.Events {
		e := &s.Events[i]
		says, known := scheduled[e.Code]
		begins := func(mark string) bool { return strings.HasPrefix(aws.ToString(e.Description), mark) }
		if !known || slices.ContainsFunc(over, begins) {
			continue
		}
		why := "scheduled event: " + string(e.Code)
		if e.NotBefore != nil {
			why += " not before " + e.NotBefore.UTC().Format(time.RFC3339)
		}
		out = append(out, cloud.Event{
			Says: says, Instances: []pool.InstanceID{pool.InstanceID(aws.ToString(s.InstanceId))}, Reason: why,
		})
	}
	return out
}

// failures returns which status checks fail, by instance.
func failures(system, instance []types.InstanceStatus) map[pool.InstanceID]string {
	out := make(map[pool.InstanceID]string)
	for i := range system {
		out[pool.InstanceID(aws.ToString(system[i].InstanceId))] = "status check failed: system"
	}
	for i := range instance {
		id := pool.InstanceID(aws.ToString(instance[i].InstanceId))
		if out[id] == "" {
			out[id] = "status check failed: instance"
		} else {
			out[id] += " and instance"
		}
	}
	return out
}

// impaired returns the instances whose checks fail now and failed at an earlier look, and remembers the others.
func (c *Cloud) impaired(now map[pool.InstanceID]string) (out []cloud.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.now()
	since := make(map[pool.InstanceID]time.Time, len(now))
	for _, id := range slices.Sorted(maps.Keys(now)) {
		first, before := c.failing[id]
		if !before {
			first = at
		}
		since[id] = first
		if before && at.Sub(first) >= impairedFor {
			out = append(out, cloud.Event{Says: cloud.Ends, Instances: []pool.InstanceID{id}, Reason: now[id]})
		}
	}
	c.failing = since
	return out
}
