package awssetup

import (
	"slices"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/lease"
)

// Setup is the IAM policy for controller setup and controller teardown.
func (p *Policies) Setup() Document { return p.fit(p.setup()) }

func (p *Policies) setup() Document {
	s := []Statement{whoAmI()}
	if onAWS(p.cfg) {
		s = append(s, p.setupBackend()...)
	}
	if _, hears := events(p.cfg); hears {
		s = append(s, p.setupRules()...)
	}
	if len(onEC2(p.cfg)) > 0 {
		s = append(s, p.setupGroups()...)
		if slices.ContainsFunc(pools(p.cfg), func(pl *config.Pool) bool {
			_, named := namesParameter(pl)
			return named
		}) {
			s = append(s, allow("ReadImageNames", []string{"ssm:GetParameter"}, p.parameters()...))
		}
		s = append(s, p.setupRoles()...)
		s = append(s, p.setupSpot()...)
	}
	return document(s...)
}

func (p *Policies) setupBackend() []Statement {
	var all []string
	for _, pl := range pools(p.cfg) {
		all = append(all, p.withDead(pl)...)
	}
	for _, arn := range p.shared() {
		all = append(all, arn, queue.DeadLetters(arn))
	}
	return []Statement{
		allow("MakeQueues", slices.Concat(openQueue, []string{
			"sqs:CreateQueue", "sqs:DeleteQueue", "sqs:ListQueueTags", "sqs:SetQueueAttributes", "sqs:TagQueue",
		}), all...),
		allow("MakeBucket", []string{
			"s3:CreateBucket", "s3:DeleteBucket", "s3:GetBucketPublicAccessBlock", "s3:GetBucketTagging",
			"s3:GetEncryptionConfiguration", "s3:ListBucket", "s3:ListBucketVersions", "s3:PutBucketOwnershipControls",
			"s3:PutBucketPublicAccessBlock", "s3:PutBucketTagging", "s3:PutEncryptionConfiguration",
		}, p.bucket),
		allow("EmptyBucket", []string{"s3:DeleteObject", "s3:DeleteObjectVersion"}, p.bucket+"/*"),
		allow("ReadLease", []string{"s3:GetObject"}, p.bucket+"/"+lease.Key),
	}
}

// setupRules are the rights on the rules that send events to the deployment's queue.
func (p *Policies) setupRules() []Statement {
	q, _ := events(p.cfg)
	all := p.rule(q.Name + "-*")
	ours := equals("aws:ResourceTag/"+awsconf.TagDeployment, p.cfg.Deployment)
	return []Statement{
		allow("SeeRules", []string{
			"events:DescribeRule", "events:ListTagsForResource", "events:ListTargetsByRule",
		}, all),
		allow("MakeRules", []string{"events:PutRule", "events:TagResource"}, all).
			when(equals("aws:RequestTag/"+awsconf.TagDeployment, p.cfg.Deployment)),
		allow("AimRules", []string{"events:PutTargets"}, all).
			when(Condition{"ArnEquals": {"events:TargetArn": {p.queue(q.Name)}}}),
		allow("RemoveRules", []string{"events:DeleteRule", "events:RemoveTargets"}, all).when(ours),
	}
}

func (p *Policies) setupGroups() []Statement {
	tag := awsconf.TagDeployment
	return []Statement{
		allow("SeeEC2", []string{
			"ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeSecurityGroups",
			"ec2:DescribeSubnets", "ec2:DescribeVpcs",
		}, everything...),
		allow("MakeGroups", []string{"ec2:CreateSecurityGroup"}, p.ec2("security-group")...).
			when(equals("aws:RequestTag/"+tag, p.cfg.Deployment)),
		allow("MakeGroupsInVPC", []string{"ec2:CreateSecurityGroup"}, p.vpcs()...),
		allow("TagNewGroups", []string{"ec2:CreateTags"}, p.ec2("security-group")...).
			when(equals("ec2:CreateAction", "CreateSecurityGroup")),
		allow("ChangeOurGroups", []string{
			"ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup", "ec2:RevokeSecurityGroupIngress",
			"ec2:UpdateSecurityGroupRuleDescriptionsIngress",
		}, p.ec2("security-group")...).
			when(equals("ec2:ResourceTag/"+tag, p.cfg.Deployment)),
	}
}

func (p *Policies) setupRoles() []Statement {
	// Those of all regions are looked at, because teardown and the names of earlier versions need that.
	all := ownedRoles(p.cfg, "") + "*"
	seen := []string{p.iam("role/" + all), p.iam("instance-profile/" + all)}
	var roles, profiles []string
	for _, region := range p.regions() {
		roles = append(roles, p.iam("role/"+ownedRoles(p.cfg, region)+"*"))
		profiles = append(profiles, p.iam("instance-profile/"+ownedRoles(p.cfg, region)+"*"))
	}
	made := slices.Concat(roles, profiles)
	requested := equals("aws:RequestTag/"+awsconf.TagDeployment, p.cfg.Deployment).
		and("aws:RequestTag/"+awsconf.TagRegion, p.regions()...)
	ours := equals("aws:ResourceTag/"+awsconf.TagDeployment, p.cfg.Deployment).
		and("aws:ResourceTag/"+awsconf.TagRegion, p.regions()...)
	// unbound adds an action to others, unless a permissions boundary restricts it: then boundRoles grants it.
	unbound := func(actions []string, action string) []string {
		if p.boundary != "" {
			return actions
		}
		return append(actions, action)
	}
	s := []Statement{
		allow("ListRoles", []string{"iam:ListInstanceProfiles", "iam:ListRoles"},
			p.iam("role/*"), p.iam("instance-profile/*")),
		allow("SeeRoles", []string{
			"iam:GetInstanceProfile", "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies",
			"iam:ListRolePolicies",
		}, seen...),
		allow("MakeRoles", unbound([]string{
			"iam:CreateInstanceProfile", "iam:TagInstanceProfile", "iam:TagRole",
		}, "iam:CreateRole"), made...).when(requested),
		allow("ChangeOurRoles", unbound([]string{
			"iam:AddRoleToInstanceProfile", "iam:DeleteInstanceProfile", "iam:DeleteRole", "iam:DeleteRolePolicy",
			"iam:DetachRolePolicy", "iam:RemoveRoleFromInstanceProfile", "iam:UpdateAssumeRolePolicy",
		}, "iam:PutRolePolicy"), made...).when(ours),
		allow("GiveRoles", []string{"iam:PassRole"}, roles...).when(p.toEC2()),
	}
	if p.boundary != "" {
		s = append(s, p.boundRoles(roles, requested, ours)...)
	}
	return s
}

// boundRoles are the rights to give roles what they may do. They hold for roles with the permissions boundary alone,
// and it can be put on roles and not taken off: DeleteRolePermissionsBoundary is denied, so that no other IAM policy of
// the same holder grants it. What IAM is taken to do here is number 54 of docs/assumptions.md.
func (p *Policies) boundRoles(roles []string, requested, ours Condition) []Statement {
	const key = "iam:PermissionsBoundary"
	return []Statement{
		allow("SeeBoundary", []string{"iam:GetPolicy"}, p.boundary),
		allow("MakeBoundRoles", []string{"iam:CreateRole"}, roles...).when(requested.and(key, p.boundary)),
		allow("ChangeBoundRoles", []string{"iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"}, roles...).
			when(ours.and(key, p.boundary)),
		deny("KeepBoundary", []string{"iam:DeleteRolePermissionsBoundary"}, p.iam("role/"+ownedRoles(p.cfg, "")+"*")),
	}
}

// setupSpot is there also if no pool uses spot instances yet, so that one may begin to without a change of rights.
func (p *Policies) setupSpot() []Statement {
	role := p.iam("role/" + spotRolePath)
	return []Statement{
		allow("SeeSpotRole", []string{"iam:GetRole"}, role),
		allow("MakeSpotRole", []string{"iam:CreateServiceLinkedRole"}, role).
			when(equals("iam:AWSServiceName", spotService)),
	}
}
