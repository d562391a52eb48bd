package config

import (
	"cmp"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

// EC2 is what a cloud of type ec2 has.
type EC2 struct {
	Region      string   `mapstructure:"region"`       // default: the backend's, else that of the SDK's chain
	Endpoint    string   `mapstructure:"endpoint"`     // likewise
	ImageOwners []string `mapstructure:"image_owners"` // whose images are found by name; default: our own
	Machine     `mapstructure:",squash"`
}

// Machine is how instances on EC2 are launched. A pool's value goes over its cloud's.
type Machine struct {
	InstanceType    string   `mapstructure:"instance_type"`
	Subnets         []string `mapstructure:"subnets"`          // tried in this order; default: those of the default VPC
	SecurityGroups  []string `mapstructure:"security_groups"`  // ids or names; default: the one that setup makes
	InstanceProfile string   `mapstructure:"instance_profile"` // name or ARN; default: the one that setup makes
	KeyName         string   `mapstructure:"key_name"`
	Market          string   `mapstructure:"market"`       // on-demand or spot
	ClientCIDRs     []string `mapstructure:"client_cidrs"` // who may reach service_port; default: the VPC
}

// clone returns a copy that shares nothing.
func (m Machine) clone() Machine {
	m.Subnets, m.SecurityGroups, m.ClientCIDRs = slices.Clone(m.Subnets), slices.Clone(m.SecurityGroups), slices.Clone(m.ClientCIDRs)
	return m
}

// The markets.
const (
	OnDemand = "on-demand"
	Spot     = "spot"
)

// OnAWS reports whether queues and objects are on AWS.
func (c *Config) OnAWS() bool { return strings.HasPrefix(c.Backend, "aws://") }

// LeaseTTL is how long the controller's lease holds without renewal. On AWS every renewal
// is paid for; elsewhere a successor need not wait so long.
func (c *Config) LeaseTTL() time.Duration {
	if c.OnAWS() {
		return 3 * time.Minute
	}
	return 15 * time.Second
}

// AWSAddress returns region, bucket and endpoint of the backend; zero if it is not on AWS.
func (c *Config) AWSAddress() awsconf.Address { return parseAWS(c.Backend) }

// parseAWS reads an address on AWS; zero if it is none, about which validate complains.
func parseAWS(text string) awsconf.Address {
	u, err := url.Parse(text)
	if err != nil {
		return awsconf.Address{}
	}
	at, err := awsconf.ParseAddress(u)
	if err != nil {
		return awsconf.Address{}
	}
	return at
}

// Reach returns the region and the endpoint of a cloud of type ec2; empty ones are left to the SDK's chain.
func (c *Config) Reach(cloud string) (region, endpoint string) {
	at, e := c.AWSAddress(), c.Clouds[cloud].EC2
	return cmp.Or(e.Region, at.Region), cmp.Or(e.Endpoint, at.Endpoint)
}

// Owned is what setup calls what it makes for a pool alone: role, instance profile, security group.
func (c *Config) Owned(name pool.Name) string {
	if c.Deployment == "" {
		return "cloudmaster-" + string(name)
	}
	return "cloudmaster-" + c.Deployment + "-" + string(name)
}

// Launch returns how instances of a pool on EC2 are launched.
func (c *Config) Launch(p *Pool) ec2cloud.Launch {
	base := c.Clouds[p.Cloud].Machine
	return ec2cloud.Launch{
		InstanceType:    cmp.Or(p.InstanceType, base.InstanceType, ec2cloud.DefaultInstanceType),
		Subnets:         orList(p.Subnets, base.Subnets),
		SecurityGroups:  orList(p.SecurityGroups, base.SecurityGroups, []string{c.Owned(p.Name)}),
		InstanceProfile: cmp.Or(p.InstanceProfile, base.InstanceProfile, c.Owned(p.Name)),
		KeyName:         cmp.Or(p.KeyName, base.KeyName),
		Spot:            cmp.Or(p.Market, base.Market) == Spot,
	}
}

// Clients returns who may reach the pool's service_port; empty means its VPC.
func (c *Config) Clients(p *Pool) []string {
	return orList(p.ClientCIDRs, c.Clouds[p.Cloud].ClientCIDRs)
}

// orList is cmp.Or for lists.
func orList(lists ...[]string) []string {
	for _, l := range lists {
		if len(l) > 0 {
			return l
		}
	}
	return nil
}

// validateEC2 checks what a cloud of type ec2 has.
func (d *document) validateEC2(key string, c *Cloud, complain complainFunc) {
	at := []string{keyClouds, key}
	address := "aws://" + c.Region
	if c.Endpoint != "" {
		address += "?endpoint=" + url.QueryEscape(c.Endpoint)
	}
	if why := backendAddress(address); why != "" {
		complain(at, "%s", strings.TrimPrefix(why, awsForm+": "))
	}
	validateMachine(at, &c.Machine, complain)
}

func validateMachine(at []string, m *Machine, complain complainFunc) {
	launch := ec2cloud.Launch{InstanceType: m.InstanceType, Subnets: m.Subnets, SecurityGroups: m.SecurityGroups}
	complainEach(at, launch.Validate(), complain)
	if m.Market != "" && m.Market != OnDemand && m.Market != Spot {
		complain(append(slices.Clone(at), "market"), "%q is not %s or %s", m.Market, OnDemand, Spot)
	}
	for _, cidr := range m.ClientCIDRs {
		if p, err := netip.ParsePrefix(cidr); err != nil || p != p.Masked() {
			complain(append(slices.Clone(at), "client_cidrs"), "%q is not a block of addresses, as 10.0.0.0/16", cidr)
		}
	}
}

// validateOnEC2 checks what a pool needs to run on EC2.
func (d *document) validateOnEC2(c *Config, p *Pool, complain complainFunc) {
	at := []string{keyPools, string(p.Name)}
	validateMachine(at, &p.Machine, complain)
	if n := c.Owned(p.Name); len(n) > maxRole && c.Launch(p).InstanceProfile == n {
		complain(append(slices.Clone(at), "instance_profile"), "is missing, and the default, %s, has more than the %d characters that IAM takes", n, maxRole)
	}
	key := "backend"
	if c.WorkerBackend != "" {
		key = "worker_backend"
	}
	switch told := cmp.Or(c.WorkerBackend, c.Backend); {
	case told == Embedded:
		complain([]string{key}, "instances on EC2 cannot reach the embedded broker: use aws://REGION, or name in worker_backend where they reach it")
	case strings.HasPrefix(told, "aws://") && parseAWS(told).Region == "":
		complain([]string{key}, "%q names no region, and instances are told this address: write it as aws://eu-west-1", told)
	}
}

// maxBucket is the longest name of a bucket. Source: S3 User Guide, "General purpose bucket naming rules".
const maxBucket = 63

// validateBucket checks the name that the deployment's bucket gets if none is named.
func validateBucket(c *Config, complain complainFunc) {
	at := c.AWSAddress()
	const account = "123456789012" // all have as many digits
	if name := awsbackend.Bucket(at.Bucket, c.Deployment, account, at.Region); len(name) > maxBucket {
		complain([]string{"deployment"}, "is too long: its bucket would be called %s, with your account's number, and S3 takes %d characters; name a bucket in the backend's address (?bucket=NAME)", name, maxBucket)
	}
}

// maxRole is the longest name of a role. Source: IAM User Guide, "IAM and AWS STS quotas".
const maxRole = 64

var errOnlyEC2 = errors.New("is only for pools on a cloud of type ec2")

// refuseMachine complains about what only instances on EC2 have.
func (d *document) refuseMachine(p *Pool, complain complainFunc) {
	path := []string{keyPools, string(p.Name)}
	for _, key := range keysIn(d.find(path)) {
		if slices.Contains(keysOf[Machine](), key) {
			complain(append(slices.Clone(path), key), "%v", errOnlyEC2)
		}
	}
}
