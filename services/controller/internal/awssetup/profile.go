package awssetup

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"cloudmaster/internal/awsconf"
	"cloudmaster/services/controller/internal/config"
)

// policyName is the name of the IAM policy inside the roles that setup makes.
const policyName = "cloudmaster"

// codeNoEntity is IAM's error code for things that do not exist.
const codeNoEntity = "NoSuchEntity"

// holder is who gets a role and an instance profile of the same name: instances of a pool, or a controller.
type holder struct {
	name   string
	what   string   // for the role's description
	policy Document // what it may do
}

// planProfile looks at role and instance profile of a pool, if they are those that setup makes.
func (s *site) planProfile(ctx context.Context, p *plan, at *place, pl *config.Pool) error {
	if !s.ownsProfile(at, pl) {
		return nil
	}
	err := s.planHolder(ctx, p, at, holder{
		name: ownedRole(s.cfg, at.aws.Region, pl.Name), what: "instances of pool " + string(pl.Name),
		policy: s.policies.Instance(pl),
	})
	if err != nil {
		return err
	}
	return s.planOldProfile(ctx, p, iam.NewFromConfig(at.aws), pl)
}

// planHolder looks at a role and its instance profile.
func (s *site) planHolder(ctx context.Context, p *plan, at *place, h holder) error {
	client, region, name := iam.NewFromConfig(at.aws), at.aws.Region, h.name
	profile, err := getProfile(ctx, client, name)
	if err != nil {
		return err
	}
	if profile != nil && p.refuseOthersIn(kindProfile, name, s.cfg.Deployment, region, iamTags(profile.Tags)) {
		return nil
	}
	foreign := profile != nil && !awsconf.Ours(iamTags(profile.Tags), s.cfg.Deployment)
	if foreign && len(profile.Roles) == 0 {
		p.refuse("instance profile %s was not made by setup for this deployment, and has no role: "+
			"put one into it, or name another one in instance_profile", name)
		return nil
	}
	role, err := s.planRole(ctx, p, at, h, foreign)
	if err != nil {
		return err
	}
	if role.verb != "" {
		p.add(role)
	}
	t := thing{kind: kindProfile, name: name, verb: keep}
	switch {
	case profile == nil:
		t.verb, t.do = create, func(ctx context.Context) error { return s.createProfile(ctx, client, region, name) }
	case foreign:
		t.verb, t.note = use, notOurs
	case len(profile.Roles) != 1 || aws.ToString(profile.Roles[0].RoleName) != name:
		t.verb, t.note = change, "its role is "+roleNames(profile.Roles)+", not "+name
		t.do = func(ctx context.Context) error { return replaceRole(ctx, client, profile, name) }
	}
	p.add(t)
	return nil
}

// planOldProfile says what an earlier version has left over of a pool.
func (s *site) planOldProfile(ctx context.Context, p *plan, client *iam.Client, pl *config.Pool) error {
	name := oldRole(s.cfg, pl.Name)
	profile, err := getProfile(ctx, client, name)
	if err != nil {
		return err
	}
	if profile != nil && s.isOld(iamTags(profile.Tags)) {
		p.add(thing{verb: leave, kind: kindProfile, name: name, note: noRegion})
	}
	role, err := getRole(ctx, client, name)
	if err != nil {
		return err
	}
	if role != nil && s.isOld(iamTags(role.Tags)) {
		p.add(thing{verb: leave, kind: kindRole, name: name, note: noRegion})
	}
	return nil
}

// isOld reports whether tags in IAM are those that an earlier version gave, which did not know of regions.
func (s *site) isOld(tags map[string]string) bool {
	return awsconf.Ours(tags, s.cfg.Deployment) && tags[awsconf.TagRegion] == ""
}

// planRole looks at a role. If the instance profile was not made by setup, a missing role is not made
// either, because nothing would use it.
func (s *site) planRole(
	ctx context.Context, p *plan, at *place, h holder, foreignProfile bool,
) (thing, error) {
	client, region := iam.NewFromConfig(at.aws), at.aws.Region
	t := thing{kind: kindRole, name: h.name}
	role, err := getRole(ctx, client, t.name)
	if err != nil {
		return t, err
	}
	switch {
	case role == nil && foreignProfile:
		return thing{}, nil
	case role != nil && p.refuseOthersIn(kindRole, t.name, s.cfg.Deployment, region, iamTags(role.Tags)):
		return thing{}, nil
	case role == nil:
		t.verb, t.do = create, func(ctx context.Context) error { return s.createRole(ctx, client, region, h) }
		return t, nil
	case !awsconf.Ours(iamTags(role.Tags), s.cfg.Deployment):
		t.verb, t.note = use, notOurs
		return t, nil
	}
	return s.compareRole(ctx, client, t, role, h.policy)
}

// compareRole says what has to be done to a role of ours.
func (s *site) compareRole(
	ctx context.Context, client *iam.Client, t thing, role *types.Role, want Document,
) (thing, error) {
	have, err := getPolicy(ctx, client, t.name)
	if err != nil {
		return t, err
	}
	trust, boundary := s.policies.trust(), s.policies.boundary
	var notes []string
	var do []func(context.Context) error
	differs := func(note string, repair func(context.Context) error) {
		notes, do = append(notes, note), append(do, repair)
	}
	// The boundary comes first: before the role has it, IAM refuses to change its policy.
	if has := boundaryIn(role); boundary != "" && has != boundary {
		differs(boundaryNote(has, boundary), func(ctx context.Context) error {
			return putBoundary(ctx, client, t.name, boundary)
		})
	}
	if !trust.equal(decoded(role.AssumeRolePolicyDocument)) {
		differs("who may take it is not EC2 alone", func(ctx context.Context) error {
			return putTrust(ctx, client, t.name, trust)
		})
	}
	if !want.equal(have) {
		differs("its policy is not as it should be", func(ctx context.Context) error {
			return putPolicy(ctx, client, t.name, want)
		})
	}
	t.verb = keep
	if len(do) > 0 {
		t.verb, t.do = change, inOrder(do)
	}
	if has := boundaryIn(role); boundary == "" && has != "" {
		notes = append(notes, keptBoundary(t.name, has))
	}
	t.note = strings.Join(notes, ", ")
	return t, nil
}

// inOrder does one after the other, until one fails.
func inOrder(steps []func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, do := range steps {
			if err := do(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

func putTrust(ctx context.Context, client *iam.Client, role string, trust Document) error {
	in := &iam.UpdateAssumeRolePolicyInput{RoleName: &role, PolicyDocument: aws.String(trust.compact())}
	return settled(ctx, func(ctx context.Context) error {
		_, err := client.UpdateAssumeRolePolicy(ctx, in)
		return err
	})
}

func (s *site) createRole(ctx context.Context, client *iam.Client, region string, h holder) error {
	name := h.name
	in := &iam.CreateRoleInput{
		RoleName: &name, AssumeRolePolicyDocument: aws.String(s.policies.trust().compact()),
		Description: aws.String("CloudMaster: " + h.what), Tags: s.iamTagList(region),
	}
	if b := s.policies.boundary; b != "" {
		in.PermissionsBoundary = &b
	}
	if err := settled(ctx, func(ctx context.Context) error {
		_, err := client.CreateRole(ctx, in)
		return err
	}); err != nil {
		return err
	}
	return putPolicy(ctx, client, name, h.policy)
}

// putPolicy writes the role's IAM policy. One that grants nothing is deleted, because IAM refuses it.
func putPolicy(ctx context.Context, client *iam.Client, role string, policy Document) error {
	if len(policy.Statement) == 0 {
		_, err := client.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{
			RoleName: &role, PolicyName: aws.String(policyName),
		})
		return unlessGone(err)
	}
	return settled(ctx, func(ctx context.Context) error {
		_, err := client.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
			RoleName: &role, PolicyName: aws.String(policyName), PolicyDocument: aws.String(policy.compact()),
		})
		return err
	})
}

func (s *site) createProfile(ctx context.Context, client *iam.Client, region, name string) error {
	in := &iam.CreateInstanceProfileInput{InstanceProfileName: &name, Tags: s.iamTagList(region)}
	if err := settled(ctx, func(ctx context.Context) error {
		_, err := client.CreateInstanceProfile(ctx, in)
		return err
	}); err != nil {
		return err
	}
	return putRoleIn(ctx, client, &name, &name)
}

func putRoleIn(ctx context.Context, client *iam.Client, profile, role *string) error {
	return settled(ctx, func(ctx context.Context) error {
		_, err := client.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{
			InstanceProfileName: profile, RoleName: role,
		})
		return err
	})
}

// replaceRole makes the named role the profile's only one.
func replaceRole(ctx context.Context, client *iam.Client, profile *types.InstanceProfile, name string) error {
	if err := takeRolesOut(ctx, client, profile); err != nil {
		return err
	}
	return putRoleIn(ctx, client, profile.InstanceProfileName, &name)
}

func takeRolesOut(ctx context.Context, client *iam.Client, profile *types.InstanceProfile) error {
	for i := range profile.Roles {
		in := &iam.RemoveRoleFromInstanceProfileInput{
			InstanceProfileName: profile.InstanceProfileName, RoleName: profile.Roles[i].RoleName,
		}
		if err := settled(ctx, func(ctx context.Context) error {
			_, err := client.RemoveRoleFromInstanceProfile(ctx, in)
			return unlessGone(err)
		}); err != nil {
			return err
		}
	}
	return nil
}

// getProfile returns nil if there is none.
func getProfile(ctx context.Context, client *iam.Client, name string) (*types.InstanceProfile, error) {
	out, err := client.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: &name})
	if err == nil {
		return out.InstanceProfile, nil
	}
	if unlessGone(err) == nil {
		return nil, nil
	}
	return nil, fmt.Errorf("look for instance profile %s: %w", name, err)
}

// getRole returns nil if there is none.
func getRole(ctx context.Context, client *iam.Client, name string) (*types.Role, error) {
	out, err := client.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err == nil {
		return out.Role, nil
	}
	if unlessGone(err) == nil {
		return nil, nil
	}
	return nil, fmt.Errorf("look for role %s: %w", name, err)
}

// getPolicy returns the document of our IAM policy in a role; empty if there is none.
func getPolicy(ctx context.Context, client *iam.Client, role string) (string, error) {
	out, err := client.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &role, PolicyName: aws.String(policyName)})
	if err == nil {
		return decoded(out.PolicyDocument), nil
	}
	if unlessGone(err) == nil {
		return "", nil
	}
	return "", fmt.Errorf("read the policy of role %s: %w", role, err)
}

// unlessGone returns err, but nil if it says that a thing does not exist.
func unlessGone(err error) error {
	if awsconf.Code(err) == codeNoEntity {
		return nil
	}
	return err
}

// decoded returns a document as it was written: IAM returns documents in URL encoding.
func decoded(doc *string) string {
	text, err := url.PathUnescape(aws.ToString(doc))
	if err != nil {
		return aws.ToString(doc)
	}
	return text
}

// equal reports whether a text from IAM has the same content, whatever its order of keys and its white space.
func (d Document) equal(text string) bool {
	if len(d.Statement) == 0 || text == "" {
		return len(d.Statement) == 0 && text == ""
	}
	var have, want any
	return json.Unmarshal([]byte(text), &have) == nil && json.Unmarshal([]byte(d.compact()), &want) == nil &&
		reflect.DeepEqual(have, want)
}

func roleNames(roles []types.Role) string {
	var names []string
	for i := range roles {
		names = append(names, aws.ToString(roles[i].RoleName))
	}
	if len(names) == 0 {
		return "missing"
	}
	return strings.Join(names, ", ")
}

func (s *site) iamTagList(region string) []types.Tag {
	tags := awsconf.SetupTagsIn(s.cfg.Deployment, region)
	return tagList(tags, func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} })
}

func iamTags(tags []types.Tag) map[string]string {
	out := make(map[string]string, len(tags))
	for _, t := range tags {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}
