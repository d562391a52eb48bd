package awssetup

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
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/s3blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/queue/sqsqueue"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/lease"
)

// Teardown removes what setup made. It refuses while the deployment lives.
func Teardown(ctx context.Context, cfg *config.Config, opts Options) error {
	s, err := open(ctx, cfg, "teardown", opts.Count)
	if err != nil {
		return err
	}
	p, err := s.planTeardown(ctx)
	if err != nil {
		return err
	}
	p.print(opts.Out)
	if p.work() == 0 {
		fmt.Fprintln(opts.Out, "There is nothing to remove.")
		return nil
	}
	if err := s.idle(ctx); err != nil || opts.DryRun {
		return err
	}
	if opts.Confirm != nil {
		if yes, err := opts.Confirm(ctx, p.work()); err != nil || !yes {
			return err
		}
		if err := s.idle(ctx); err != nil { // the answer may have taken its time
			return err
		}
	}
	return p.carryOut(ctx, opts.Out, "controller teardown")
}

// planTeardown finds all that there is to remove, in the order in which it can be.
func (s *site) planTeardown(ctx context.Context) (*plan, error) {
	var p plan
	for i := range s.places {
		if err := s.findGroups(ctx, &p, &s.places[i]); err != nil {
			return nil, err
		}
	}
	if len(s.places) > 0 { // IAM is the same in all of them
		client := iam.NewFromConfig(s.places[0].aws)
		if err := errors.Join(s.findProfiles(ctx, &p, client), s.findRoles(ctx, &p, client)); err != nil {
			return nil, err
		}
	}
	if s.queues != nil {
		if err := errors.Join(s.findRules(ctx, &p), s.findQueues(ctx, &p), s.findBucket(ctx, &p)); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

// findGroups finds groups by their tag, and so also those of pools that are not in the file any more.
func (s *site) findGroups(ctx context.Context, p *plan, at *place) error {
	client := ec2.NewFromConfig(at.aws)
	made, err := groups(ctx, client, filter("tag:"+awsconf.TagMadeBy, awsconf.MadeBySetup))
	if err != nil {
		return fmt.Errorf("look for security groups: %w", err)
	}
	for i := range made {
		g := &made[i]
		if !awsconf.Ours(ec2Tags(g.Tags), s.cfg.Deployment) {
			continue
		}
		p.add(thing{
			verb: remove, kind: kindGroup, name: aws.ToString(g.GroupName),
			do: func(ctx context.Context) error {
				err := settled(ctx, func(ctx context.Context) error {
					_, err := client.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: g.GroupId})
					if awsconf.Code(err) == codeNoGroup {
						return nil
					}
					return err
				})
				if awsconf.Code(err) == codeInUse {
					return fmt.Errorf("a network interface, or a rule of another group, still uses %s: %w",
						aws.ToString(g.GroupId), err)
				}
				return err
			},
		})
	}
	names := s.groupNames(at)
	if len(names) == 0 {
		return nil
	}
	named, err := groups(ctx, client, filter("group-name", names...))
	if err != nil {
		return fmt.Errorf("look for security groups: %w", err)
	}
	for i := range named {
		if !awsconf.Ours(ec2Tags(named[i].Tags), s.cfg.Deployment) {
			p.add(thing{verb: leave, kind: kindGroup, name: aws.ToString(named[i].GroupName), note: notOurs})
		}
	}
	return nil
}

// groupNames are the names of the security groups that setup makes in a place.
func (s *site) groupNames(at *place) []string {
	var out []string
	for _, pl := range s.pools() {
		if s.placeOf(pl.Cloud) == at && s.ownsGroup(at, pl) {
			out = append(out, ownedGroup(s.cfg, pl.Name))
		}
	}
	return out
}

// roleNames are the names of the roles and instance profiles that setup makes in all places.
func (s *site) roleNames() []string {
	var out []string
	for _, pl := range s.pools() {
		if at := s.placeOf(pl.Cloud); at != nil && s.ownsProfile(at, pl) {
			out = append(out, ownedRole(s.cfg, at.aws.Region, pl.Name))
		}
	}
	for i := range s.places {
		if at := &s.places[i]; s.controllerRoleAt(at) {
			out = append(out, controllerRole(s.cfg, at.aws.Region))
		}
	}
	return out
}

// findProfiles finds instance profiles by the beginning of their names, and looks at the tags of each, because
// another deployment's name may begin like ours.
func (s *site) findProfiles(ctx context.Context, p *plan, client *iam.Client) error {
	var found []string
	pages := iam.NewListInstanceProfilesPaginator(client, &iam.ListInstanceProfilesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("look for instance profiles: %w", err)
		}
		for i := range page.InstanceProfiles {
			found = append(found, aws.ToString(page.InstanceProfiles[i].InstanceProfileName))
		}
	}
	for _, name := range s.candidates(found) {
		profile, err := getProfile(ctx, client, name)
		if err != nil {
			return err
		}
		if profile == nil {
			continue
		}
		s.judge(p, kindProfile, name, iamTags(profile.Tags), func(ctx context.Context) error {
			if err := takeRolesOut(ctx, client, profile); err != nil {
				return err
			}
			return settled(ctx, func(ctx context.Context) error {
				_, err := client.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: &name})
				return unlessGone(err)
			})
		})
	}
	return nil
}

// findRoles finds roles as findProfiles finds profiles.
func (s *site) findRoles(ctx context.Context, p *plan, client *iam.Client) error {
	var found []string
	pages := iam.NewListRolesPaginator(client, &iam.ListRolesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("look for roles: %w", err)
		}
		for i := range page.Roles {
			found = append(found, aws.ToString(page.Roles[i].RoleName))
		}
	}
	for _, name := range s.candidates(found) {
		role, err := getRole(ctx, client, name)
		if err != nil {
			return err
		}
		if role != nil {
			s.judge(p, kindRole, name, iamTags(role.Tags),
				func(ctx context.Context) error { return removeRole(ctx, client, name) })
		}
	}
	return nil
}

// candidates are the names that may be ours, sorted.
func (s *site) candidates(found []string) []string {
	begin := ownedRoles(s.cfg, "")
	found = slices.DeleteFunc(found, func(name string) bool { return !strings.HasPrefix(name, begin) })
	slices.Sort(found)
	return found
}

// judge plans to remove a thing in IAM if it is ours and of a region of this configuration. The plan also says what
// stays although its name or its tags are like ours.
func (s *site) judge(p *plan, kind, name string, tags map[string]string, do func(context.Context) error) {
	t := thing{verb: leave, kind: kind, name: name}
	region := tags[awsconf.TagRegion]
	switch {
	case !awsconf.Ours(tags, s.cfg.Deployment):
		if !slices.Contains(s.roleNames(), name) {
			return
		}
		t.note = notOurs
	case region == "":
		t.note = noRegion
	case !s.has(region):
		t.note = "made for region " + region
	default:
		t.verb, t.do = remove, do
	}
	p.add(t)
}

// has reports whether a region is among those with instances.
func (s *site) has(region string) bool {
	return slices.ContainsFunc(s.places, func(at place) bool { return at.aws.Region == region })
}

// removeRole deletes a role with its policies, also those that an operator gave it.
func removeRole(ctx context.Context, client *iam.Client, name string) error {
	inline := iam.NewListRolePoliciesPaginator(client, &iam.ListRolePoliciesInput{RoleName: &name})
	for inline.HasMorePages() {
		page, err := inline.NextPage(ctx)
		if err != nil {
			return unlessGone(err)
		}
		for _, policy := range page.PolicyNames {
			in := &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: &policy}
			if _, err := client.DeleteRolePolicy(ctx, in); unlessGone(err) != nil {
				return err
			}
		}
	}
	attached := iam.NewListAttachedRolePoliciesPaginator(client, &iam.ListAttachedRolePoliciesInput{RoleName: &name})
	for attached.HasMorePages() {
		page, err := attached.NextPage(ctx)
		if err != nil {
			return unlessGone(err)
		}
		for _, policy := range page.AttachedPolicies {
			in := &iam.DetachRolePolicyInput{RoleName: &name, PolicyArn: policy.PolicyArn}
			if _, err := client.DetachRolePolicy(ctx, in); unlessGone(err) != nil {
				return err
			}
		}
	}
	return settled(ctx, func(ctx context.Context) error {
		_, err := client.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
		return unlessGone(err)
	})
}

// findQueues looks at the queues of the file's pools and of the deployment. SQS cannot be asked for queues by tag.
func (s *site) findQueues(ctx context.Context, p *plan) error {
	var all []config.Queue
	for _, pl := range s.pools() {
		all = append(all, pl.Queues...)
	}
	for _, q := range append(all, s.cfg.Shared()...) {
		dead, main, err := sqsqueue.Inspect(ctx, *s.queues, q.Name, q.Limits)
		if err != nil {
			return err
		}
		for _, have := range []sqsqueue.State{main, dead} {
			t := thing{verb: leave, kind: kindQueue, name: have.Name, note: notOurs}
			switch {
			case !have.Exists:
				continue
			case awsconf.Ours(have.Tags, s.cfg.Deployment):
				t.verb, t.note = remove, ""
				t.do = func(ctx context.Context) error { return sqsqueue.Remove(ctx, *s.queues, have.Name) }
			}
			p.add(t)
		}
	}
	return nil
}

func (s *site) findBucket(ctx context.Context, p *plan) error {
	have, err := s3blob.Inspect(ctx, *s.queues, s.bucket, s.account)
	if err != nil {
		return err
	}
	t := thing{verb: leave, kind: kindBucket, name: s.bucket, note: notOurs}
	switch {
	case !have.Exists:
		return nil
	case awsconf.Ours(have.Tags, s.cfg.Deployment):
		t.verb, t.note = remove, ""
		t.do = func(ctx context.Context) error { return s3blob.Remove(ctx, *s.queues, s.bucket, s.account) }
	}
	p.add(t)
	return nil
}

// idle returns an error if the deployment is in use: if a controller runs or instances are there.
func (s *site) idle(ctx context.Context) error {
	if s.queues != nil {
		if err := s.leaseFree(ctx); err != nil {
			return err
		}
	}
	var ids []string
	seen := make(map[string]string)
	for i := range s.places {
		opened, err := ec2cloud.Open(ctx, s.places[i].aws, s.cfg.Deployment, ec2cloud.Options{})
		if err != nil {
			return err
		}
		list, err := opened.List(ctx)
		if err != nil {
			return err
		}
		for j := range list {
			if list[j].Phase == cloud.Terminated {
				continue
			}
			id := string(list[j].ID)
			ids = append(ids, id)
			seen[id] = fmt.Sprintf("%s (%s, %s)", id, list[j].Tags[cloud.TagPool], list[j].Phase)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return fmt.Errorf("nothing was removed: instances of the deployment are there: %s. Stop the controller, end them "+
		"(aws ec2 terminate-instances --instance-ids %s), wait until they are gone, and run it again",
		strings.Join(slices.Sorted(maps.Values(seen)), ", "), strings.Join(ids, " "))
}

// leaseFree looks at the lease in the bucket, if there is one.
func (s *site) leaseFree(ctx context.Context) error {
	store, err := s3blob.Open(ctx, *s.queues, s.bucket, s3blob.Options{Account: s.account})
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := lease.Free(ctx, store, time.Now); err != nil {
		return fmt.Errorf("nothing was removed: %w", err)
	}
	return nil
}
