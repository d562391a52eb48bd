package ec2cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// KindName is the type of such a cloud in the configuration.
const KindName = "ec2"

// The markets.
const (
	OnDemand = "on-demand"
	Spot     = "spot"
)

// Settings are the keys of a cloud of this kind. Those of Machine are for its pools that have none of their own.
type Settings struct {
	Region      string   `key:"region" default:"the backend's, else the SDK's" help:"where the instances are"`
	Endpoint    string   `key:"endpoint" default:"the backend's, else the SDK's" help:"URL of what speaks EC2's API"`
	ImageOwners []string `key:"image_owners" help:"whose images are found by name"`
	Machine
}

// Machine are the keys that say how instances are launched, in a cloud or in a pool. A pool's value goes
// over its cloud's.
type Machine struct {
	InstanceType string   `key:"instance_type" default:"the cloud's" help:"what EC2 calls the size of the machine"`
	Subnets      []string `key:"subnets" default:"the default VPC's" help:"ids, tried in this order if one has no room"`

	SecurityGroups  []string `key:"security_groups" default:"what setup makes" help:"ids, or names that one VPC has"`
	InstanceProfile string   `key:"instance_profile" default:"what setup makes" help:"name or ARN"`

	KeyName     string   `key:"key_name" default:"none" help:"SSH key"`
	Market      string   `key:"market" default:"the cloud's" help:"on-demand or spot"`
	ClientCIDRs []string `key:"client_cidrs" default:"the VPC" help:"blocks of addresses that may reach service_port"`
	Address     string   `key:"address" default:"public with client_cidrs, else private" help:"private or public: clients' way"`
}

// Validate implements kind.Settings.
func (s *Settings) Validate() error {
	errs := []error{s.Machine.Validate()}
	if _, err := parse("aws://" + s.Region); err != nil {
		errs = append(errs, fmt.Errorf("region: %w", err))
	}
	if _, err := parse("aws://?endpoint=" + url.QueryEscape(s.Endpoint)); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Validate implements kind.Settings.
func (m *Machine) Validate() error {
	launch := Launch{InstanceType: m.InstanceType, Subnets: m.Subnets, SecurityGroups: m.SecurityGroups}
	errs := []error{launch.Validate()}
	if m.Market != "" && m.Market != OnDemand && m.Market != Spot {
		errs = append(errs, fmt.Errorf("market: %q is not %s or %s", m.Market, OnDemand, Spot))
	}
	if m.Address != "" && m.Address != cloud.PrivateAddress && m.Address != cloud.PublicAddress {
		errs = append(errs, fmt.Errorf("address: %q is not %s or %s", m.Address, cloud.PrivateAddress,
			cloud.PublicAddress))
	}
	for _, cidr := range m.ClientCIDRs {
		if p, err := netip.ParsePrefix(cidr); err != nil || p != p.Masked() {
			errs = append(errs, fmt.Errorf("client_cidrs: %q is not a block of addresses, as 10.0.0.0/16", cidr))
		}
	}
	return errors.Join(errs...)
}

// Kind describes the cloud to the configuration.
func Kind() cloud.Kind {
	return cloud.Kind{
		Name: KindName,
		Help: "Amazon EC2; the image of a pool is an id (ami-…), an SSM parameter that holds one (ssm:/path), " +
			"or a name, with * and ?, which means the newest image of that name",
		Settings: func() kind.Settings {
			return &Settings{
				ImageOwners: []string{DefaultImageOwner},
				Machine:     Machine{InstanceType: DefaultInstanceType, Market: OnDemand},
			}
		},
		PoolSettings:  func() kind.Settings { return new(Machine) },
		AuditInterval: time.Minute, Remote: true,
		PublicAddress: publicAddress, CheckPool: checkPool, Open: openKind,
	}
}

func settings(s kind.Settings) (*Settings, error) {
	set, ok := s.(*Settings)
	if !ok {
		return nil, fmt.Errorf("a cloud of type %s has no settings of type %T", KindName, s)
	}
	return set, nil
}

// checkPool checks that clients can reach the addresses that they are sent to.
func checkPool(s kind.Settings, deployment string, p cloud.PoolSpec) error {
	set, err := settings(s)
	if err != nil {
		return err
	}
	own := Owned(deployment, p.Name)
	if p.ServicePort == 0 || !set.public(p.Settings) || len(set.Clients(p.Settings)) > 0 ||
		!slices.Equal(set.Launch(deployment, "", p.Name, p.Settings).SecurityGroups, []string{own}) {
		return nil
	}
	return errors.New("address: is public, and the security group that setup makes lets in the VPC alone: name in " +
		"client_cidrs who may reach service_port, or leave address out")
}

func publicAddress(s, own kind.Settings) bool {
	set, err := settings(s)
	return err == nil && set.public(own)
}

// public reports whether clients are sent to the public address of a pool's instances. own is the pool's Machine. If
// nothing is said it is the private one, unless clients outside the VPC are let in.
func (s *Settings) public(own kind.Settings) bool {
	switch cmp.Or(machine(own).Address, s.Address) {
	case cloud.PublicAddress:
		return true
	case cloud.PrivateAddress:
		return false
	}
	return len(s.Clients(own)) > 0
}

// Launch returns how instances of a pool are launched in a region. own is the pool's Machine.
func (s *Settings) Launch(deployment, region string, name pool.Name, own kind.Settings) Launch {
	m := machine(own)
	return Launch{
		InstanceType:    cmp.Or(m.InstanceType, s.InstanceType, DefaultInstanceType),
		Subnets:         firstOf(m.Subnets, s.Subnets),
		SecurityGroups:  firstOf(m.SecurityGroups, s.SecurityGroups, []string{Owned(deployment, name)}),
		InstanceProfile: cmp.Or(m.InstanceProfile, s.InstanceProfile, OwnedRole(deployment, region, name)),
		KeyName:         cmp.Or(m.KeyName, s.KeyName),
		Spot:            cmp.Or(m.Market, s.Market) == Spot,
		Public:          s.public(own),
	}
}

// Clients returns who may reach a pool's service_port; empty means its VPC. own is the pool's Machine.
func (s *Settings) Clients(own kind.Settings) []string {
	return firstOf(machine(own).ClientCIDRs, s.ClientCIDRs)
}

// machine returns the settings of a pool; the zero value if it has none.
func machine(own kind.Settings) Machine {
	if m, ok := own.(*Machine); ok && m != nil {
		return *m
	}
	return Machine{}
}

// firstOf returns the first list that is not empty.
func firstOf(lists ...[]string) []string {
	for _, l := range lists {
		if len(l) > 0 {
			return l
		}
	}
	return nil
}

// Reach returns the region and the endpoint of a cloud: its own, else those of the backend's address if
// that is on AWS. Empty ones are left to the SDK's chain.
func (s *Settings) Reach(backend string) (region, endpoint string) {
	var at awsconf.Address
	if strings.HasPrefix(backend, "aws://") {
		at, _ = parse(backend) // the configuration was checked
	}
	return cmp.Or(s.Region, at.Region), cmp.Or(s.Endpoint, at.Endpoint)
}

func parse(address string) (awsconf.Address, error) {
	u, err := url.Parse(address)
	if err != nil {
		return awsconf.Address{}, fmt.Errorf("%q is not an address", address)
	}
	return awsconf.ParseAddress(u)
}

func openKind(ctx context.Context, o cloud.OpenOptions) (cloud.Opened, error) {
	set, err := settings(o.Settings)
	if err != nil {
		return nil, err
	}
	region, endpoint := set.Reach(o.Backend)
	cfg, err := awsconf.Load(ctx, awsconf.Options{
		Region: region, Endpoint: endpoint, Client: o.Client, PolicyFile: o.PolicyFile, Count: o.Count,
	})
	if err != nil {
		return nil, err
	}
	launch := func(name pool.Name) (Launch, bool) {
		own, known := o.Pool(name)
		return set.Launch(o.Deployment, cfg.Region, name, own), known
	}
	c, err := Open(ctx, cfg, o.Deployment, Options{Pool: launch, ImageOwners: set.ImageOwners, Log: o.Log})
	if err != nil {
		return nil, err
	}
	return c, nil
}
