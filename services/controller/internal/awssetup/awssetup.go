// Package awssetup makes on AWS what a configuration needs beforehand, and takes it down
// again: queues and bucket, and for pools on EC2 security groups, roles and instance
// profiles. It also knows the IAM policy of each program (deploy/aws).
//
// Both directions first look and make a plan, print it, and then carry it out thing by
// thing. What setup made carries tags that say so. Nothing else is ever changed or
// removed: what exists under a name that is needed is used as it is, or refused if that cannot work.
package awssetup

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/services/controller/internal/config"
)

// policyFile has the rights that Setup and Teardown need, for the advice in errors.
const policyFile = "deploy/aws/setup.json"

// Options of Setup and Teardown.
type Options struct {
	Out    io.Writer // the plan, and what is done
	DryRun bool      // the plan only
	// Confirm is asked before things are removed; nil means yes.
	Confirm func(ctx context.Context, things int) (bool, error)
	Count   func(service, operation string, err error) // called for each request to AWS; may be nil
}

// Needed reports whether a configuration uses AWS at all.
func Needed(cfg *config.Config) bool { return cfg.OnAWS() || len(onEC2(cfg)) > 0 }

// Setup makes what is missing and corrects what differs.
func Setup(ctx context.Context, cfg *config.Config, opts Options) error {
	s, err := open(ctx, cfg, "setup", opts.Count)
	if err != nil {
		return err
	}
	p, err := s.planSetup(ctx)
	if err != nil {
		return err
	}
	p.print(opts.Out)
	if err := p.refused(); err != nil {
		return err
	}
	if p.work() == 0 {
		fmt.Fprintln(opts.Out, "Nothing is to be done: all of it is there.")
		return nil
	}
	if opts.DryRun {
		return nil
	}
	return p.carryOut(ctx, opts.Out, "controller setup")
}

var accountForm = regexp.MustCompile(`^[0-9]{12}$`)

// PrintPolicy writes the IAM policy of a program or a pool, see Policies.Named. With an account and a
// region in the configuration it needs no credentials.
func PrintPolicy(ctx context.Context, cfg *config.Config, account, name string, out io.Writer) error {
	if account != "" && !accountForm.MatchString(account) {
		return fmt.Errorf("%q is not the number of an AWS account: it has 12 digits", account)
	}
	region := cfg.AWSAddress().Region
	var policies *Policies
	if account != "" && region != "" {
		policies = NewPolicies(cfg, account, region, awsbackend.Bucket(cfg.AWSAddress().Bucket, cfg.Deployment, account, region))
	} else {
		s, err := open(ctx, cfg, "setup", nil)
		if err != nil {
			return err
		}
		policies = s.policies
	}
	doc, ok := policies.Named(name)
	if !ok {
		return fmt.Errorf("there is no policy %q: there are controller, allocator, feed-primes, setup, and one for each pool", name)
	}
	text, err := doc.Encode()
	if err != nil {
		return fmt.Errorf("policy %s: %w", name, err)
	}
	_, err = out.Write(text)
	return err
}

// planSetup looks at everything that is needed, in the order in which it is made.
func (s *site) planSetup(ctx context.Context) (*plan, error) {
	var p plan
	if s.queues != nil {
		if err := s.planQueues(ctx, &p); err != nil {
			return nil, err
		}
		if err := s.planBucket(ctx, &p); err != nil {
			return nil, err
		}
	}
	for _, pl := range s.pools() {
		at := s.placeOf(pl.Cloud)
		if at == nil {
			continue
		}
		if err := s.planGroup(ctx, &p, at, pl); err != nil {
			return nil, err
		}
		if err := s.planProfile(ctx, &p, at, pl); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

// site is what a configuration has of AWS, reached.
type site struct {
	cfg      *config.Config
	account  string
	queues   *awsconf.Config // where queues and bucket are; nil if the backend is elsewhere
	bucket   string
	places   []place // where instances are; each once
	policies *Policies
}

// place is one region (or endpoint) with instances.
type place struct {
	aws    awsconf.Config
	clouds []string // the configuration's clouds that are there
}

// open reaches what the configuration has of AWS. program is who is denied, in errors.
func open(ctx context.Context, cfg *config.Config, program string, count func(service, operation string, err error)) (*site, error) {
	s := &site{cfg: cfg}
	load := func(region, endpoint string) (awsconf.Config, error) {
		return awsconf.Load(ctx, awsconf.Options{
			Region: region, Endpoint: endpoint, Client: program, PolicyFile: policyFile, Count: count,
		})
	}
	if cfg.OnAWS() {
		at := cfg.AWSAddress()
		loaded, err := load(at.Region, at.Endpoint)
		if err != nil {
			return nil, err
		}
		s.queues = &loaded
	}
	if err := s.openPlaces(load); err != nil {
		return nil, err
	}
	return s, s.identify(ctx)
}

func (s *site) openPlaces(load func(region, endpoint string) (awsconf.Config, error)) error {
	known := make(map[[2]string]int)
	for _, name := range onEC2(s.cfg) {
		region, endpoint := s.cfg.Reach(name)
		key := [2]string{region, endpoint}
		if i, ok := known[key]; ok {
			s.places[i].clouds = append(s.places[i].clouds, name)
			continue
		}
		loaded, err := load(region, endpoint)
		if err != nil {
			return fmt.Errorf("cloud %s: %w", name, err)
		}
		known[key] = len(s.places)
		s.places = append(s.places, place{aws: loaded, clouds: []string{name}})
	}
	return nil
}

// identify finds out whose credentials these are: names and policies hold the account.
func (s *site) identify(ctx context.Context) error {
	var err error
	at := s.queues
	if at == nil {
		at = &s.places[0].aws
	}
	if s.account, err = awsconf.Account(ctx, *at); err != nil {
		return err
	}
	s.bucket = awsbackend.Bucket(s.cfg.AWSAddress().Bucket, s.cfg.Deployment, s.account, at.Region)
	s.policies = NewPolicies(s.cfg, s.account, at.Region, s.bucket)
	return nil
}

func (s *site) placeOf(cloud string) *place {
	for i := range s.places {
		if slices.Contains(s.places[i].clouds, cloud) {
			return &s.places[i]
		}
	}
	return nil
}

func (s *site) pools() []*config.Pool { return pools(s.cfg) }

// pools are a configuration's pools in the order of their names.
func pools(cfg *config.Config) []*config.Pool {
	var out []*config.Pool
	for _, name := range slices.Sorted(maps.Keys(cfg.Pools)) {
		p := cfg.Pools[name]
		out = append(out, &p)
	}
	return out
}

// onEC2 are the names of the clouds of type ec2, sorted.
func onEC2(cfg *config.Config) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(cfg.Clouds)) {
		if cfg.Clouds[name].Type == config.EC2Cloud {
			out = append(out, name)
		}
	}
	return out
}

// ownsGroup and ownsProfile report whether the pool uses what setup makes for it.
func (s *site) ownsGroup(p *config.Pool) bool {
	return slices.Equal(s.cfg.Launch(p).SecurityGroups, []string{s.cfg.Owned(p.Name)})
}

func (s *site) ownsProfile(p *config.Pool) bool {
	return s.cfg.Launch(p).InstanceProfile == s.cfg.Owned(p.Name)
}
