package awssetup

import (
	"context"
	"errors"
	"slices"
	"strings"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/services/controller/internal/config"
)

// planMachines refuses instance types that do not exist where their pools are, and images for another architecture,
// which would otherwise be found at the first launch. An image that is not there yet is no error, because setup runs
// before images are made.
func (s *site) planMachines(ctx context.Context, p *plan) error {
	for i := range s.places {
		at := &s.places[i]
		here := s.poolsAt(at)
		var kinds []string
		for _, pl := range here {
			kinds = append(kinds, s.kindsOf(at, pl)...)
		}
		slices.Sort(kinds)
		if kinds = slices.Compact(kinds); len(kinds) == 0 {
			continue
		}
		archs, err := ec2cloud.Architectures(ctx, at.aws, kinds)
		if err != nil {
			return err
		}
		for _, pl := range here {
			if err := s.planMachine(ctx, p, at, pl, archs); err != nil {
				return err
			}
		}
	}
	return nil
}

// poolsAt are the pools whose instances are at a place.
func (s *site) poolsAt(at *place) []*config.Pool {
	return slices.DeleteFunc(s.pools(), func(pl *config.Pool) bool { return s.placeOf(pl.Cloud) != at })
}

// kindsOf are the instance types of a pool, in the order in which they are tried.
func (s *site) kindsOf(at *place, pl *config.Pool) []string {
	return launch(s.cfg, at.aws.Region, pl).InstanceTypes
}

// planMachine looks at the types and the image of a pool. archs are the architectures of the types that exist.
func (s *site) planMachine(
	ctx context.Context, p *plan, at *place, pl *config.Pool, archs map[string][]string,
) error {
	kinds, region := s.kindsOf(at, pl), at.aws.Region
	missing := slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return archs[kind] != nil })
	if len(missing) > 0 {
		p.refuse("pools.%s.instance_types: %s has no instance type %s: correct it here, or in clouds.%s if the pool "+
			"has none of its own; aws ec2 describe-instance-type-offerings --region %s lists those that exist",
			pl.Name, region, strings.Join(missing, ", "), pl.Cloud, region)
		return nil
	}
	for _, name := range imagesOf(pl, kinds, archs) {
		_, arch, err := ec2cloud.FindImage(ctx, at.aws, ec2Settings(s.cfg, pl.Cloud).ImageOwners, name.image)
		switch {
		case errors.Is(err, cloud.ErrNotFound):
		case errors.Is(err, cloud.ErrInvalid):
			p.refuse("pools.%s.image: %w", pl.Name, err)
		case err != nil:
			return err
		default:
			refuseUnfit(p, pl, name, arch, archs)
		}
	}
	return nil
}

// named is an image as it is named for some instance types.
type named struct {
	image string
	kinds []string
}

// imagesOf are the images of a pool: one, unless its name holds the architecture.
func imagesOf(pl *config.Pool, kinds []string, archs map[string][]string) []named {
	if !byArchitecture(pl) {
		return []named{{image: pl.Image, kinds: kinds}}
	}
	var out []named
	for _, kind := range kinds {
		if len(archs[kind]) == 0 {
			continue // the launch will say so
		}
		image := strings.ReplaceAll(pl.Image, ec2cloud.ArchMark, archs[kind][0])
		i := slices.IndexFunc(out, func(n named) bool { return n.image == image })
		if i < 0 {
			i, out = len(out), append(out, named{image: image})
		}
		out[i].kinds = append(out[i].kinds, kind)
	}
	return out
}

// refuseUnfit refuses an image that instance types cannot run. One that does not say what it is for is not refused.
func refuseUnfit(p *plan, pl *config.Pool, name named, arch string, archs map[string][]string) {
	var others []string
	for _, kind := range name.kinds {
		if arch != "" && !slices.Contains(archs[kind], arch) {
			others = append(others, kind+" ("+strings.Join(archs[kind], ", ")+")")
		}
	}
	if len(others) > 0 {
		p.refuse("pools.%s.image: %s is for %s, and cannot run on the instance types %s: name an image for them (make "+
			"ami ARCH=... makes one; %s in the name stands for each type's architecture), or other instance_types",
			pl.Name, name.image, arch, strings.Join(others, ", "), ec2cloud.ArchMark)
	}
}
