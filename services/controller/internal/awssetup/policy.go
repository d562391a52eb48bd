package awssetup

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/config"
)

// Policies builds the IAM policies of the programs of one deployment.
type Policies struct {
	cfg                               *config.Config
	partition, region, account, owner string // owner is what instances carry as their deployment
	suffix                            string // how the names of AWS's hosts end
	bucket                            string // its ARN
	boundary                          string // the ARN of the permissions boundary of roles; empty: none
}

// NewPolicies returns the IAM policies for a configuration in an account. region is the backend's.
func NewPolicies(ctx context.Context, cfg *config.Config, account, region, bucket string) (*Policies, error) {
	p := &Policies{
		cfg: cfg, region: region, account: account, owner: cmp.Or(cfg.Deployment, ec2cloud.DefaultDeployment),
	}
	var err error
	if p.partition, err = partition(ctx, region); err != nil {
		return nil, err
	}
	if p.suffix, err = dnsSuffix(ctx, region); err != nil {
		return nil, err
	}
	if p.boundary, err = boundaryOf(cfg); err != nil {
		return nil, err
	}
	if err := errors.Join(fitsBoundary(p.boundary, p.partition, account), checkControllerRole(cfg)); err != nil {
		return nil, err
	}
	p.bucket = "arn:" + p.partition + ":s3:::" + bucket
	return p, nil
}

// Who needs an IAM policy, beside the instances of pools.
const (
	roleController = "controller"
	roleAllocator  = "allocator" // reads active sets and requests servers
	roleFeeder     = "feeder"    // sends jobs
	roleSetup      = "setup"     // sets up and takes down

	feedPool = "feed-" // sends jobs to the pool whose name follows
)

// Names are what Named takes.
func (p *Policies) Names() []string {
	names := []string{roleController, roleAllocator, roleFeeder, roleSetup}
	for _, pl := range pools(p.cfg) {
		if !takesRequests(pl) {
			names = append(names, feedPool+string(pl.Name))
		}
	}
	for _, pl := range pools(p.cfg) {
		names = append(names, string(pl.Name))
	}
	return names
}

// Named returns the IAM policy of a role: controller, allocator, feeder (sends jobs to all pools), feed-POOL
// (to this one), setup, or the name of a pool, for its instances; false if there is none of this name.
func (p *Policies) Named(name string) (Document, bool) {
	roles := map[string]func() Document{
		roleController: p.Controller, roleAllocator: p.Allocator, roleSetup: p.Setup,
		roleFeeder: func() Document { return p.Feeder(pools(p.cfg)...) },
	}
	if build, ok := roles[name]; ok {
		return build(), true
	}
	if fed, ok := strings.CutPrefix(name, feedPool); ok {
		if pl, ok := p.cfg.Pools[pool.Name(fed)]; ok && !takesRequests(&pl) {
			return p.Feeder(&pl), true
		}
	}
	if pl, ok := p.cfg.Pools[pool.Name(name)]; ok {
		return p.Instance(&pl), true
	}
	return Document{}, false
}

// Actions that go together.
var (
	openQueue  = []string{"sqs:GetQueueUrl", "sqs:GetQueueAttributes"}
	sendTo     = append(slices.Clone(openQueue), "sqs:SendMessage")
	takeFrom   = []string{"sqs:ReceiveMessage", "sqs:DeleteMessage"}
	workOff    = append(slices.Clone(takeFrom), "sqs:ChangeMessageVisibility")
	everything = []string{"*"}
)

// Instance is the IAM policy of a pool's instances. Workers take jobs from the work queue; servers need no right
// on it, because the controller takes the requests for them.
func (p *Policies) Instance(pl *config.Pool) Document {
	if !onAWS(p.cfg) {
		return document()
	}
	report := allow("Report", sendTo, p.use(pl, config.Status))
	if takesRequests(pl) {
		return document(report)
	}
	return document(
		allow("WorkOffJobs", slices.Concat(openQueue, workOff), p.use(pl, config.Work)),
		allow("BuryJobs", []string{"sqs:GetQueueUrl", "sqs:SendMessage"}, queue.DeadLetters(p.use(pl, config.Work))),
		report,
	)
}

// Controller is the controller's IAM policy. The pattern that stands for the roles of many pools is also that of the
// controller's own role, which it must not pass: instances are what pools' programs run on.
func (p *Policies) Controller() Document {
	exact := p.controller()
	d := p.fit(exact)
	if reflect.DeepEqual(d, exact) || len(onEC2(p.cfg)) == 0 {
		return d
	}
	if own := p.controllerRoles(); len(own) > 0 {
		d.Statement = append(d.Statement, deny("KeepOwnRole", []string{"iam:PassRole"}, own...))
	}
	return d
}

func (p *Policies) controller() Document {
	var s []Statement
	if onAWS(p.cfg) {
		s = append(p.controlQueues(),
			whoAmI(),
			allow("SeeAges", []string{"cloudwatch:GetMetricData"}, everything...), // IAM knows no resource for it
			allow("FindBucket", []string{"s3:ListBucket"}, p.bucket),
			allow("KeepState", []string{"s3:GetObject", "s3:PutObject"},
				p.bucket+"/controller/*", p.bucket+"/active-set/*"),
		)
	}
	if len(onEC2(p.cfg)) > 0 {
		s = append(s, p.controlInstances()...)
	}
	return document(s...)
}

func (p *Policies) controlQueues() []Statement {
	var all, requests []string
	taken := make(map[config.Use][]string)
	for _, pl := range pools(p.cfg) {
		all = append(all, p.withDead(pl)...)
		for _, q := range pl.Queues {
			taken[q.Use] = append(taken[q.Use], p.queue(q.Name))
		}
		if takesRequests(pl) {
			requests = append(requests, p.use(pl, config.Work))
		}
	}
	shared := p.shared()
	all = append(all, shared...)
	s := []Statement{allow("WatchQueues", openQueue, all...), allow("Hear", takeFrom, taken[config.Status]...)}
	if len(shared) > 0 {
		s = append(s, allow("TakePost", takeFrom, shared...))
	}
	if len(requests) > 0 {
		s = append(s, allow("TakeRequests", workOff, requests...))
	}
	if orders := taken[config.Orders]; len(orders) > 0 {
		s = append(s, allow("TakeOrders", takeFrom, orders...))
	}
	return s
}

// Allocator is the IAM policy of an allocator of all pools whose servers clients ask for.
func (p *Policies) Allocator() Document { return p.fit(p.allocator()) }

func (p *Policies) allocator() Document {
	var sets, requests []string
	for _, pl := range pools(p.cfg) {
		if takesRequests(pl) {
			sets = append(sets, p.bucket+"/"+activeset.Key(pl.Name))
			requests = append(requests, p.use(pl, config.Work))
		}
	}
	if !onAWS(p.cfg) || len(sets) == 0 {
		return document()
	}
	return document(
		whoAmI(),
		allow("FindBucket", []string{"s3:ListBucket"}, p.bucket),
		allow("ReadActiveSets", []string{"s3:GetObject"}, sets...),
		allow("RequestServers", sendTo, append(requests, p.shared(config.Hints)...)...),
	)
}

// Feeder is the IAM policy of a program that sends jobs to pools, and hints that there are some.
func (p *Policies) Feeder(to ...*config.Pool) Document { return p.fit(p.feeder(to)) }

func (p *Policies) feeder(to []*config.Pool) Document {
	var queues []string
	for _, pl := range to {
		if !takesRequests(pl) {
			queues = append(queues, p.use(pl, config.Work))
		}
	}
	if !onAWS(p.cfg) || len(queues) == 0 {
		return document()
	}
	return document(allow("SendJobs", sendTo, append(queues, p.shared(config.Hints)...)...))
}

// trust is the document with which EC2, and nobody else, may give a role to instances.
func (p *Policies) trust() Document {
	return document(Statement{
		Effect: "Allow", Action: []string{"sts:AssumeRole"}, Principal: map[string]string{"Service": p.ec2Service()},
	})
}

// ec2Everywhere is EC2 as a principal. Source: the AWS provider of Terraform, servicePrincipalNameForPartition, which
// was made after aws-cdk's region-info.
const ec2Everywhere = "ec2.amazonaws.com"

// ec2Service is EC2 as the principal of roles. In China it ends as hosts do: earlier versions wrote that, and the
// source above has no such exception. Nobody has tried it there.
func (p *Policies) ec2Service() string {
	if p.partition == "aws-cn" {
		return "ec2." + p.suffix
	}
	return ec2Everywhere
}

// toEC2 is the condition that a role may be passed to EC2 only. Where hosts have another suffix EC2 may go by either
// name.
func (p *Policies) toEC2() Condition {
	names := Values{ec2Everywhere, "ec2." + p.suffix}
	return equals("iam:PassedToService", slices.Compact(names)...)
}

// use returns the ARN of a pool's queue for a use.
func (p *Policies) use(pl *config.Pool, use config.Use) string {
	q, _ := pl.Queue(use) // all pools have those that are asked for
	return p.queue(q.Name)
}

// shared are the ARNs of the deployment's own queues for some uses; of all if none is named.
func (p *Policies) shared(uses ...config.Use) (out []string) {
	for _, q := range p.cfg.Shared() {
		if len(uses) == 0 || slices.Contains(uses, q.Use) {
			out = append(out, p.queue(q.Name))
		}
	}
	return out
}

// queue returns a queue's ARN.
func (p *Policies) queue(name string) string {
	return "arn:" + p.partition + ":sqs:" + p.region + ":" + p.account + ":" + name
}

// withDead are the ARNs of a pool's queues, each with its dead letters.
func (p *Policies) withDead(pl *config.Pool) []string {
	var out []string
	for _, n := range pl.Queues {
		out = append(out, p.queue(n.Name), p.queue(queue.DeadLetters(n.Name)))
	}
	return out
}

func (p *Policies) iam(resource string) string {
	return "arn:" + p.partition + ":iam::" + p.account + ":" + resource
}

// ec2 are the ARNs of all things of some kinds in the regions with instances.
func (p *Policies) ec2(kinds ...string) []string {
	var out []string
	for _, region := range p.regions() {
		for _, kind := range kinds {
			out = append(out, "arn:"+p.partition+":ec2:"+region+":"+p.account+":"+kind+"/*")
		}
	}
	return out
}

// parameters are the ARNs of the SSM parameters that pools name as their images, and of all below /cloudmaster/,
// so that an image can be named there without a change of the IAM policy.
func (p *Policies) parameters() []string {
	var out []string
	for _, region := range p.regions() {
		base := "arn:" + p.partition + ":ssm:" + region + ":"
		names := map[string]bool{base + p.account + ":parameter/cloudmaster/*": true}
		for _, pl := range pools(p.cfg) {
			path, named := namesParameter(pl)
			path = strings.ReplaceAll(path, ec2cloud.ArchMark, "*")
			switch path = strings.TrimPrefix(path, "/"); {
			case !named:
			case strings.HasPrefix(path, "aws/"): // AWS's own belong to no account
				names[base+":parameter/"+path] = true
			default:
				names[base+p.account+":parameter/"+path] = true
			}
		}
		out = append(out, slices.Sorted(maps.Keys(names))...)
	}
	return out
}

// regions with instances, each once, in the order of the clouds' names.
func (p *Policies) regions() []string {
	var out []string
	for _, name := range onEC2(p.cfg) {
		if region := p.regionOf(name); !slices.Contains(out, region) {
			out = append(out, region)
		}
	}
	return out
}

// regionOf is the region of a cloud.
func (p *Policies) regionOf(name pool.CloudName) string {
	region, _ := reach(p.cfg, name)
	return cmp.Or(region, p.region)
}

// roles are the ARNs of the roles that instances of pools get. An instance profile that setup did not make is
// assumed to have a role of its own name, which is how the AWS console makes them.
func (p *Policies) roles() []string {
	var out []string
	for _, pl := range pools(p.cfg) {
		if p.cfg.Clouds[pl.Cloud].Kind.Name != ec2cloud.KindName {
			continue
		}
		profile := launch(p.cfg, p.regionOf(pl.Cloud), pl).InstanceProfile
		out = append(out, p.iam("role/"+profile[strings.LastIndexByte(profile, '/')+1:]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
