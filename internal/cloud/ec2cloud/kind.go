package ec2cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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

// Settings are the keys of a cloud of this kind. Those of Machine are for its pools that have none of their own.
type Settings struct {
	Region      string   `key:"region" default:"the backend's, else the SDK's" help:"where the instances are"`
	Endpoint    string   `key:"endpoint" default:"the backend's, else the SDK's" help:"URL of what speaks EC2's API"`
	ImageOwners []string `key:"image_owners" help:"whose images are found by name"`
	VPC         string   `key:"vpc" default:"any" help:"id of the one in which IAM policies let instances be launched"`

	PermissionsBoundary string `key:"permissions_boundary" default:"none" help:"ARN; limits the roles that setup makes"`
	ControllerRole      bool   `key:"controller_role" help:"setup also makes a role for a controller on an instance"`

	Rebalance string `key:"rebalance" help:"replace or ignore: what a recommendation to rebalance does to a spot instance"`
	Machine
}

// Machine are the keys that say how instances are launched, in a cloud or in a pool. A pool's value goes
// over its cloud's.
type Machine struct {
	InstanceType  string   `key:"instance_type" default:"the cloud's" help:"what EC2 calls the size of the machine"`
	InstanceTypes []string `key:"instance_types" default:"instance_type" help:"several, tried in this order"`
	Subnets       []string `key:"subnets" default:"the default VPC's" help:"ids, tried in this order if one has no room"`
	Zones         string   `key:"zones" default:"in-order" help:"in-order, or balanced: level over the subnets"`

	SecurityGroups  []string `key:"security_groups" default:"what setup makes" help:"ids, or names that one VPC has"`
	InstanceProfile string   `key:"instance_profile" default:"what setup makes" help:"name or ARN"`

	KeyName string `key:"key_name" default:"none" help:"SSH key"`
	Market  any    `key:"market" default:"the cloud's" help:"on-demand, spot, or {spot: 70%, fallback: on-demand}"`
	Credits string `key:"credits" default:"standard" help:"of t types: standard, or unlimited, which may cost more"`

	VolumeSize      int    `key:"volume_size" default:"the image's" help:"GiB of the root volume"`
	VolumeType      string `key:"volume_type" default:"the image's" help:"of the root volume, as gp3"`
	VolumeEncrypted bool   `key:"volume_encrypted" default:"the image's" help:"encrypt the root volume"`

	IPv6           bool              `key:"ipv6" help:"give instances an IPv6 address of their subnet"`
	PlacementGroup string            `key:"placement_group" default:"none" help:"name of a placement group"`
	Tags           map[string]string `key:"tags" default:"none" help:"on instances, volumes, interfaces, spot requests"`
	ClientCIDRs    []string          `key:"client_cidrs" default:"the VPC" help:"blocks of addresses that may reach service_port"`
	// Address is which address of an instance clients are told.
	Address string `key:"address" default:"public with client_cidrs, else private" help:"private or public: clients' way"`
}

// Validate implements kind.Settings.
func (s *Settings) Validate() error {
	errs := []error{s.Machine.Validate(), s.validateAccount()}
	if s.Rebalance != "" && s.Rebalance != RebalanceReplace && s.Rebalance != RebalanceIgnore {
		errs = append(errs, fmt.Errorf("rebalance: %q is not %s or %s", s.Rebalance, RebalanceReplace, RebalanceIgnore))
	}
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
	l := Launch{
		InstanceTypes: m.types(), Subnets: m.Subnets, SecurityGroups: m.SecurityGroups, Credits: m.Credits,
		Volume: m.volume(), Tags: m.Tags,
	}
	var errs []error
	if m.InstanceType != "" && m.InstanceType != DefaultInstanceType && len(m.InstanceTypes) > 0 {
		errs = append(errs, errors.New("instance_type: there is also instance_types; leave one of them out"))
	}
	if m.Zones != "" && m.Zones != ZonesInOrder && m.Zones != ZonesBalanced {
		errs = append(errs, fmt.Errorf("zones: %q is not %s or %s", m.Zones, ZonesInOrder, ZonesBalanced))
	}
	if _, err := parseMarket(m.Market); err != nil {
		errs = append(errs, fmt.Errorf("market: %w", err))
	}
	errs = append(errs, l.Validate())
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

// types are the instance types, in order; nil if none is given.
func (m *Machine) types() []string {
	if len(m.InstanceTypes) == 0 && m.InstanceType != "" {
		return []string{m.InstanceType}
	}
	return m.InstanceTypes
}

func (m *Machine) volume() Volume {
	return Volume{Size: m.VolumeSize, Type: m.VolumeType, Encrypted: m.VolumeEncrypted}
}

// Kind describes the cloud to the configuration.
func Kind() cloud.Kind {
	return cloud.Kind{
		Name: KindName,
		Help: "Amazon EC2; the image of a pool is an id (ami-…), an SSM parameter that holds one (ssm:/path), " +
			"or a name, with * and ?, which means the newest image of that name; {arch} in it stands for amd64 or " +
			"arm64, as the instance type is",
		Settings: func() kind.Settings {
			return &Settings{
				ImageOwners: []string{DefaultImageOwner}, Rebalance: RebalanceReplace,
				Machine: Machine{InstanceType: DefaultInstanceType, Zones: ZonesInOrder, Market: OnDemand},
			}
		},
		PoolSettings:  func() kind.Settings { return new(Machine) },
		AuditInterval: time.Minute, Remote: true, Identity: "aws", Stops: true,
		Events: eventsReach, ParseEvent: parseEvent, PublicAddress: publicAddress,
		Made: madeOf, CheckPool: checkPool, Open: openKind,
	}
}

func settings(s kind.Settings) (*Settings, error) {
	set, ok := s.(*Settings)
	if !ok {
		return nil, fmt.Errorf("a cloud of type %s has no settings of type %T", KindName, s)
	}
	return set, nil
}

// checkPool checks what depends on pool and cloud together, and that clients can reach the addresses that they are
// sent to.
func checkPool(s kind.Settings, deployment string, p cloud.PoolSpec) error {
	set, err := settings(s)
	if err != nil {
		return err
	}
	l, own := set.Launch(deployment, "", p.Name, p.Settings), Owned(deployment, p.Name)
	err = l.Validate()
	if p.Warm > 0 && l.Spot > 0 {
		err = errors.Join(err, errors.New("warm: EC2 cannot stop spot instances that a launch has asked for: leave "+
			"warm out, or have the market be on-demand"))
	}
	if p.ServicePort == 0 || !l.Public || len(set.Clients(p.Settings)) > 0 ||
		!slices.Equal(l.SecurityGroups, []string{own}) {
		return err
	}
	return errors.Join(err, errors.New("address: is public, and the security group that setup makes lets in the VPC "+
		"alone: name in client_cidrs who may reach service_port, or leave address out"))
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
	m, market := machine(own), Market{}
	for _, v := range []any{m.Market, s.Market} {
		if v != nil {
			market, _ = parseMarket(v) // the configuration was checked
			break
		}
	}
	l := Launch{
		InstanceTypes:   firstOf(m.types(), s.types(), []string{DefaultInstanceType}),
		Subnets:         firstOf(m.Subnets, s.Subnets),
		Balanced:        cmp.Or(m.Zones, s.Zones) == ZonesBalanced,
		Spot:            market.Spot,
		Fallback:        market.Fallback,
		SecurityGroups:  firstOf(m.SecurityGroups, s.SecurityGroups, []string{Owned(deployment, name)}),
		InstanceProfile: cmp.Or(m.InstanceProfile, s.InstanceProfile, OwnedRole(deployment, region, name)),
		KeyName:         cmp.Or(m.KeyName, s.KeyName),
		Public:          s.public(own),
		Credits:         cmp.Or(m.Credits, s.Credits),
		PlacementGroup:  cmp.Or(m.PlacementGroup, s.PlacementGroup),
		IPv6:            m.IPv6 || s.IPv6,
		Volume: Volume{
			Size: cmp.Or(m.VolumeSize, s.VolumeSize), Type: cmp.Or(m.VolumeType, s.VolumeType),
			Encrypted: m.VolumeEncrypted || s.VolumeEncrypted,
		},
		Tags: maps.Clone(s.Tags),
	}
	if l.Tags == nil {
		l.Tags = m.Tags
	} else {
		maps.Copy(l.Tags, m.Tags)
	}
	return l
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

// eventsReach reports whether the cloud's events can reach a queue of the backend: EventBridge sends only to queues of
// its own region.
func eventsReach(s kind.Settings, backend string) bool {
	set, err := settings(s)
	if err != nil || !strings.HasPrefix(backend, "aws://") {
		return false
	}
	at, err := parse(backend)
	region, endpoint := set.Reach(backend)
	return err == nil && region == at.Region && endpoint == at.Endpoint
}

func parseEvent(s kind.Settings, body []byte) (cloud.Event, error) {
	set, err := settings(s)
	if err != nil {
		return cloud.Event{}, err
	}
	return ParseEvent(body, set.Rebalance)
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
