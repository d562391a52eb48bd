// Package awssetup makes on AWS what a configuration needs before a controller can run, and removes it again:
// queues and a bucket, and for pools on EC2 security groups, roles and instance profiles. It also builds the
// IAM policy of each program (deploy/aws).
//
// Setup and teardown first look at what is there and make a plan. They print the plan, and then carry it out,
// one thing after the other. What setup made carries tags that say so, and nothing else is ever changed or
// removed: if something exists under a name that is needed, it is used as it is, or refused if it cannot be used.
package awssetup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/pool"
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

// PolicyOptions of PrintPolicy.
type PolicyOptions struct {
	Name    string    // see Policies.Named
	Account string    // its number; empty: that of the backend's address or of the credentials
	Out     io.Writer // the document
	Warn    io.Writer // what stands against using it as it is
}

// PrintPolicy writes the IAM policy of a program or a pool. With an account and a region in the configuration it needs
// no credentials.
func PrintPolicy(ctx context.Context, cfg *config.Config, opts PolicyOptions) error {
	account := cmp.Or(opts.Account, address(cfg).Account)
	if account != "" && !awsconf.AccountForm.MatchString(account) {
		return fmt.Errorf("%q is not the number of an AWS account: it has 12 digits", account)
	}
	policies, err := policiesOf(ctx, cfg, account)
	if err != nil {
		return err
	}
	doc, ok := policies.Named(opts.Name)
	if !ok {
		return fmt.Errorf("there is no IAM policy %q: there are %s", opts.Name, strings.Join(policies.Names(), ", "))
	}
	text, err := doc.Encode()
	if err != nil {
		return fmt.Errorf("IAM policy %s: %w", opts.Name, err)
	}
	if warning := doc.tooLarge(opts.Name); warning != "" {
		fmt.Fprintln(opts.Warn, "warning: "+warning)
	}
	_, err = opts.Out.Write(text)
	return err
}

// policiesOf asks AWS for account and region if they are not known.
func policiesOf(ctx context.Context, cfg *config.Config, account string) (*Policies, error) {
	if at := address(cfg); account != "" && at.Region != "" {
		bucket := awsbackend.Bucket(at.Bucket, cfg.Deployment, account, at.Region)
		return NewPolicies(ctx, cfg, account, at.Region, bucket)
	}
	s, err := open(ctx, cfg, "setup", nil)
	if err != nil {
		return nil, err
	}
	return s.policies, nil
}

// planSetup looks at everything that is needed, in the order in which it is made.
func (s *site) planSetup(ctx context.Context) (*plan, error) {
	var p plan
	if err := errors.Join(s.planBoundary(ctx, &p), s.planMachines(ctx, &p)); err != nil {
		return nil, err
	}
	if s.queues != nil {
		if err := errors.Join(s.planQueues(ctx, &p), s.planEvents(ctx, &p)); err != nil {
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
	if err := s.planController(ctx, &p); err != nil {
		return nil, err
	}
	return &p, s.planSpot(ctx, &p)
}

// site is the part of AWS that a configuration uses, with clients that reach it.
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
	clouds []pool.CloudName // the configuration's clouds that are there
}

// open connects to the part of AWS that the configuration uses. Errors of denied calls name the program.
func open(
	ctx context.Context, cfg *config.Config, program string, count func(service, operation string, err error),
) (*site, error) {
	s := &site{cfg: cfg}
	load := func(region, endpoint string) (awsconf.Config, error) {
		return awsconf.Load(ctx, awsconf.Options{
			Region: region, Endpoint: endpoint, Client: program, PolicyFile: policyFile, Count: count,
		})
	}
	if onAWS(cfg) {
		at := address(cfg)
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
		region, endpoint := reach(s.cfg, name)
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
		s.places = append(s.places, place{aws: loaded, clouds: []pool.CloudName{name}})
	}
	return nil
}

// identify finds out which account the credentials belong to, because names and IAM policies contain it.
func (s *site) identify(ctx context.Context) error {
	var err error
	at := s.queues
	if at == nil {
		at = &s.places[0].aws
	}
	if s.account, err = awsconf.Account(ctx, *at, address(s.cfg).Account); err != nil {
		return err
	}
	s.bucket = awsbackend.Bucket(address(s.cfg).Bucket, s.cfg.Deployment, s.account, at.Region)
	s.policies, err = NewPolicies(ctx, s.cfg, s.account, at.Region, s.bucket)
	return err
}

func (s *site) placeOf(cloud pool.CloudName) *place {
	for i := range s.places {
		if slices.Contains(s.places[i].clouds, cloud) {
			return &s.places[i]
		}
	}
	return nil
}

func (s *site) pools() []*config.Pool { return pools(s.cfg) }

// ownsGroup and ownsProfile report whether the pool uses what setup makes for it at a place.
func (s *site) ownsGroup(at *place, p *config.Pool) bool {
	return slices.Equal(launch(s.cfg, at.aws.Region, p).SecurityGroups, []string{ownedGroup(s.cfg, p.Name)})
}

func (s *site) ownsProfile(at *place, p *config.Pool) bool {
	return launch(s.cfg, at.aws.Region, p).InstanceProfile == ownedRole(s.cfg, at.aws.Region, p.Name)
}
