package ec2cloud

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// The defaults of Options.
const (
	DefaultDeployment   = "default"
	DefaultInstanceType = "t3.micro"
	DefaultImageOwner   = "self"
)

// Launch says how instances of a pool are launched, beyond what a cloud.Spec says.
type Launch struct {
	// InstanceTypes are tried in this order when one has no capacity; default t3.micro.
	InstanceTypes []string
	// Subnets are tried in this order when one has no capacity; none: the default VPC's choice.
	Subnets []string
	// Balanced launches where the pool has the fewest instances, and splits a launch over the subnets.
	Balanced bool
	// Spot is how many of a hundred instances of the pool are one-time spot instances.
	Spot int
	// Fallback launches on demand in the place of spot instances for which there is no capacity.
	Fallback bool

	// SecurityGroups are ids (sg-…) or names. A name that several VPCs have is refused.
	SecurityGroups  []string
	InstanceProfile string // name or ARN
	KeyName         string
	Public          bool   // clients are sent to the public address
	Credits         string // of burstable types: CreditsStandard or CreditsUnlimited; default standard
	PlacementGroup  string // its name; empty: none
	IPv6            bool   // give the instance an IPv6 address of its subnet

	Volume Volume            // the root volume
	Tags   map[string]string // of the user, on everything that the launch makes
}

// Volume says how the root volume differs from what the image says. The zero value leaves it as it is.
type Volume struct {
	Size      int    // GiB; 0: as the image says
	Type      string // such as gp3; empty: as the image says
	Encrypted bool   // false: as the image and the account's settings say
}

// How a burstable instance pays for processor time above its share: not at all, or by the hour.
// Source: Amazon EC2 User Guide, "Burstable performance instances".
const (
	CreditsStandard  = "standard"
	CreditsUnlimited = "unlimited"
)

// Options of Open. The zero value is usable.
type Options struct {
	Launch Launch // of pools of which Pool knows nothing
	// Pool returns how instances of one pool are launched, or false if it knows nothing of the pool. It is asked at
	// each launch, because pools may come, change and go. Nil: it knows nothing of any.
	Pool        func(pool.Name) (Launch, bool)
	ImageOwners []string     // whose images are looked for by name; default self
	Log         *slog.Logger // default: none
}

var (
	deploymentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	typeForm       = regexp.MustCompile(`^[a-z][a-z0-9-]*\.[a-z0-9-]+$`)
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
	for _, t := range l.InstanceTypes {
		if !typeForm.MatchString(t) {
			errs = append(errs, fmt.Errorf("instance type %q: want one as t3.micro", t))
		}
	}
	if l.Spot < 0 || l.Spot > 100 {
		errs = append(errs, fmt.Errorf("market: %d%% of spot instances: want 0 to 100", l.Spot))
	}
	if l.Credits != "" && l.Credits != CreditsStandard && l.Credits != CreditsUnlimited {
		errs = append(errs, fmt.Errorf("credits: %q is not %s or %s", l.Credits, CreditsStandard, CreditsUnlimited))
	}
	if l.Balanced && len(l.Subnets) < 2 {
		errs = append(errs, fmt.Errorf("zones: %s needs two subnets or more, and there are %d: name them in subnets, "+
			"or leave zones out", ZonesBalanced, len(l.Subnets)))
	}
	return errors.Join(append(errs, l.Volume.validate(), checkTags(l.Tags))...)
}

func (v *Volume) validate() error {
	if v.Size < 0 || v.Size > maxVolume {
		return fmt.Errorf("volume_size: %d GiB: want 1 to %d, or 0 for the image's", v.Size, maxVolume)
	}
	return nil
}

// The limits of what a launch may ask for. Sources: Amazon EBS User Guide, "Amazon EBS volume types"; Amazon EC2 User
// Guide, "Tag restrictions".
const (
	maxVolume   = 64 << 10 // GiB, of io2; other types take less
	maxTags     = 50 - 12  // 12 are left for ours and for those to come
	maxTagKey   = 128
	maxTagValue = 256
)

// checkTags returns all that is wrong with a user's tags.
func checkTags(tags map[string]string) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		switch n := utf8.RuneCountInString(key); {
		case n == 0 || n > maxTagKey:
			errs = append(errs, fmt.Errorf("tags: key %q: want 1 to %d characters", key, maxTagKey))
		case strings.HasPrefix(key, "aws:"):
			errs = append(errs, fmt.Errorf("tags: key %q: aws: is for Amazon's own tags", key))
		case strings.HasPrefix(key, ownPrefix) || key == nameTag:
			errs = append(errs, fmt.Errorf("tags: key %q: CloudMaster writes this tag itself", key))
		}
		if n := utf8.RuneCountInString(tags[key]); n > maxTagValue {
			errs = append(errs, fmt.Errorf("tags: value of %q has %d characters: want at most %d", key, n, maxTagValue))
		}
	}
	if len(tags) > maxTags {
		errs = append(errs, fmt.Errorf("tags: there are %d: EC2 takes 50 on a resource, and a few are ours; "+
			"want at most %d", len(tags), maxTags))
	}
	return errors.Join(errs...)
}

// of returns how instances of a pool are launched.
func (o *Options) of(name pool.Name) (Launch, error) {
	l := o.Launch
	if o.Pool != nil {
		if own, known := o.Pool(name); known {
			l = own
		}
	}
	if err := l.Validate(); err != nil {
		return Launch{}, fmt.Errorf("%w: pool %s: %w", cloud.ErrInvalid, name, err)
	}
	if len(l.InstanceTypes) == 0 {
		l.InstanceTypes = []string{DefaultInstanceType}
	}
	if len(l.Subnets) == 0 {
		l.Subnets = []string{""} // EC2 chooses
	}
	return l, nil
}

// public reports whether clients are sent to the public address of a pool's instances.
func (o *Options) public(name pool.Name) bool {
	if o.Pool == nil {
		return o.Launch.Public
	}
	own, _ := o.Pool(name) // of a pool that has gone, what its cloud says
	return own.Public
}
