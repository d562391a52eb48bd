package awssetup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/services/controller/internal/config"
)

// Check returns what is wrong with the parts of a configuration that only setup and the IAM policies use, as far as
// that can be known without AWS.
func Check(ctx context.Context, cfg *config.Config) error {
	_, err := boundaryOf(cfg)
	errs := []error{err, checkControllerRole(cfg), checkProfiles(cfg), checkRules(cfg)}
	for _, name := range onEC2(cfg) {
		region, _ := reach(cfg, name)
		if region == "" {
			continue
		}
		in, err := partition(ctx, region)
		if err == nil {
			err = fitsBoundary(ec2Settings(cfg, name).PermissionsBoundary, in, address(cfg).Account)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("clouds.%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// checkControllerRole refuses a pool whose role would have the name of the controller's.
func checkControllerRole(cfg *config.Config) error {
	pl, ok := cfg.Pools[roleController]
	if !ok || !ec2Settings(cfg, pl.Cloud).ControllerRole {
		return nil
	}
	return fmt.Errorf("pools.%s: its role would have the name of the controller's, which clouds.%s.controller_role "+
		"asks for: rename the pool, or leave controller_role out", roleController, pl.Cloud)
}

// checkProfiles refuses pools whose instances would get the rights of the controller that setup makes a role for.
func checkProfiles(cfg *config.Config) error {
	made := make(map[string]bool) // names of the controllers' instance profiles
	for _, name := range onEC2(cfg) {
		if region, _ := reach(cfg, name); ec2Settings(cfg, name).ControllerRole {
			made[controllerRole(cfg, region)] = true
		}
	}
	var errs []error
	for _, pl := range pools(cfg) {
		if cfg.Clouds[pl.Cloud].Kind.Name != ec2cloud.KindName || pl.Name == roleController {
			continue
		}
		region, _ := reach(cfg, pl.Cloud)
		profile := launch(cfg, region, pl).InstanceProfile
		if name := profile[strings.LastIndexByte(profile, '/')+1:]; made[name] {
			errs = append(errs, fmt.Errorf("pools.%s.instance_profile: %s is the controller's, and instances of the "+
				"pool would have its rights: leave the key out, so that setup makes one for the pool, or name "+
				"another one", pl.Name, name))
		}
	}
	return errors.Join(errs...)
}

// controllerRoles are the ARNs of the roles that setup makes for controllers in the regions with instances; none if
// roles of that name are those of a pool.
func (p *Policies) controllerRoles() []string {
	if _, isPool := p.cfg.Pools[roleController]; isPool {
		return nil
	}
	var out []string
	for _, region := range p.regions() {
		out = append(out, p.iam("role/"+controllerRole(p.cfg, region)))
	}
	return out
}

// controllerRoleAt reports whether setup makes a role for a controller at a place.
func (s *site) controllerRoleAt(at *place) bool {
	for _, name := range at.clouds {
		if ec2Settings(s.cfg, name).ControllerRole {
			return true
		}
	}
	return false
}

// controllerRole is the name of the controller's role and instance profile in a region.
func controllerRole(cfg *config.Config, region string) string {
	return ownedRole(cfg, region, roleController)
}

// planController looks at role and instance profile of a controller on an instance, where the configuration wants one.
// Its IAM policy is the one that controller policy prints.
func (s *site) planController(ctx context.Context, p *plan) error {
	for i := range s.places {
		at := &s.places[i]
		if !s.controllerRoleAt(at) {
			continue
		}
		err := s.planHolder(ctx, p, at, holder{
			name: controllerRole(s.cfg, at.aws.Region), what: "the controller", policy: s.policies.Controller(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
