package ec2cloud

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// The defaults of Options.
const (
	DefaultDeployment   = "default"
	DefaultInstanceType = "t3.micro"
	DefaultImageOwner   = "self"
)

// Launch says how instances are launched, beyond what a cloud.Spec says.
type Launch struct {
	InstanceType string // default t3.micro
	// Subnets are tried in this order when one has no capacity; none: the default VPC's choice.
	Subnets []string
	// SecurityGroups are ids (sg-…) or names. A name that several VPCs have is refused.
	SecurityGroups  []string
	InstanceProfile string // name or ARN
	KeyName         string
	Spot            bool // one-time spot instances; Pool can switch it on, not off
	Public          bool // clients are sent to the public address; Pool can switch it on, not off
}

// Options of Open. The zero value is usable.
type Options struct {
	Launch Launch // of every pool
	// Pool returns what goes over Launch for one pool, field by field, or false if there is nothing. It is
	// asked at each launch, because pools may come, change and go. Nil: there is nothing for any pool.
	Pool        func(pool.Name) (Launch, bool)
	ImageOwners []string     // whose images are looked for by name; default self
	Log         *slog.Logger // default: none
}

var (
	deploymentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	subnetForm     = regexp.MustCompile(`^subnet-[0-9a-f]+$`)
	groupForm      = regexp.MustCompile(`^sg-[0-9a-f]+$`)
)

// withDefaults fills in what is not set and refuses what cannot work, all problems at once.
func (o Options) withDefaults(deployment string) (Options, error) {
	var errs []error
	if !deploymentName.MatchString(deployment) {
		errs = append(errs, fmt.Errorf("deployment %q: want 1 to 63 of A-Z a-z 0-9 . _ -, "+
			"beginning with a letter or digit", deployment))
	}
	errs = append(errs, o.Launch.Validate())
	if len(o.ImageOwners) == 0 {
		o.ImageOwners = []string{DefaultImageOwner}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(errs...)
}

// Validate returns all that cannot work.
func (l *Launch) Validate() error {
	var errs []error
	for _, s := range l.Subnets {
		if !subnetForm.MatchString(s) {
			errs = append(errs, fmt.Errorf("subnet %q: want an id as subnet-0123456789abcdef0", s))
		}
	}
	if slices.Contains(l.SecurityGroups, "") {
		errs = append(errs, errors.New("a security group is empty: want an id as sg-0123456789abcdef0, or a name"))
	}
	if strings.ContainsAny(l.InstanceType, " \t\n") {
		errs = append(errs, fmt.Errorf("instance type %q: want one as t3.micro", l.InstanceType))
	}
	return errors.Join(errs...)
}

// of returns how instances of a pool are launched.
func (o *Options) of(name pool.Name) (Launch, error) {
	var own Launch
	if o.Pool != nil {
		if l, known := o.Pool(name); known {
			own = l
		}
	}
	if err := own.Validate(); err != nil {
		return Launch{}, fmt.Errorf("%w: pool %s: %w", cloud.ErrInvalid, name, err)
	}
	return own.over(o.Launch), nil
}

// public reports whether clients are sent to the public address of a pool's instances.
func (o *Options) public(name pool.Name) bool {
	if o.Launch.Public || o.Pool == nil {
		return o.Launch.Public
	}
	own, _ := o.Pool(name) // of a pool that has gone, what its cloud says
	return own.Public
}

// over fills in from base what l leaves open.
func (l Launch) over(base Launch) Launch {
	l.InstanceType = cmp.Or(l.InstanceType, base.InstanceType, DefaultInstanceType)
	l.InstanceProfile = cmp.Or(l.InstanceProfile, base.InstanceProfile)
	l.KeyName = cmp.Or(l.KeyName, base.KeyName)
	l.Spot, l.Public = l.Spot || base.Spot, l.Public || base.Public
	if len(l.Subnets) == 0 {
		l.Subnets = base.Subnets
	}
	if len(l.SecurityGroups) == 0 {
		l.SecurityGroups = base.SecurityGroups
	}
	return l
}
