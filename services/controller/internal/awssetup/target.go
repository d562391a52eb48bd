package awssetup

import (
	"maps"
	"slices"
	"strings"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
)

// Needed reports whether a configuration uses AWS at all.
func Needed(cfg *config.Config) bool { return onAWS(cfg) || len(onEC2(cfg)) > 0 }

// onAWS reports whether queues and objects are on AWS.
func onAWS(cfg *config.Config) bool { return cfg.Backend.Kind.Name == awsbackend.Name }

// address is that of the backend; zero if it is not on AWS.
func address(cfg *config.Config) awsconf.Address {
	if !onAWS(cfg) {
		return awsconf.Address{}
	}
	at, _ := awsbackend.ParseAddress(cfg.Backend.Address) // the configuration was checked
	return at
}

// pools are a configuration's pools in the order of their names.
func pools(cfg *config.Config) []*config.Pool {
	var out []*config.Pool
	for _, name := range slices.Sorted(maps.Keys(cfg.Pools)) {
		p := cfg.Pools[name]
		out = append(out, &p)
	}
	return out
}

// onEC2 are the names of the clouds that are EC2, sorted.
func onEC2(cfg *config.Config) []pool.CloudName {
	var out []pool.CloudName
	for _, name := range slices.Sorted(maps.Keys(cfg.Clouds)) {
		if cfg.Clouds[name].Kind.Name == ec2cloud.KindName {
			out = append(out, name)
		}
	}
	return out
}

// ec2Settings are those of a cloud; the zero value if it is not EC2.
func ec2Settings(cfg *config.Config, name pool.CloudName) *ec2cloud.Settings {
	if s, ok := cfg.Clouds[name].Settings.(*ec2cloud.Settings); ok {
		return s
	}
	return new(ec2cloud.Settings)
}

// reach returns region and endpoint of a cloud; empty ones are left to the SDK's chain.
func reach(cfg *config.Config, name pool.CloudName) (region, endpoint string) {
	return ec2Settings(cfg, name).Reach(cfg.Backend.Address)
}

// launch returns how instances of a pool on EC2 are launched in a region.
func launch(cfg *config.Config, region string, p *config.Pool) ec2cloud.Launch {
	return ec2Settings(cfg, p.Cloud).Launch(cfg.Deployment, region, p.Name, p.OnCloud)
}

// clients returns who may reach a pool's service_port; empty means its VPC.
func clients(cfg *config.Config, p *config.Pool) []string {
	return ec2Settings(cfg, p.Cloud).Clients(p.OnCloud)
}

// ownedGroup is the name of the security group that setup makes for a pool.
func ownedGroup(cfg *config.Config, name pool.Name) string {
	return ec2cloud.Owned(cfg.Deployment, name)
}

// ownedRole is the name of the role and of the instance profile that setup makes for a pool in a region.
func ownedRole(cfg *config.Config, region string, name pool.Name) string {
	return ec2cloud.OwnedRole(cfg.Deployment, region, name)
}

// oldRole is the name that earlier versions gave to a pool's role and instance profile in every region.
func oldRole(cfg *config.Config, name pool.Name) string { return ec2cloud.Owned(cfg.Deployment, name) }

// ownedRoles is how the names of roles and instance profiles of the deployment in a region begin; in all regions, and
// under their old names, if the region is empty.
func ownedRoles(cfg *config.Config, region string) string {
	return ec2cloud.OwnedRoles(cfg.Deployment, region)
}

// takesRequests reports whether a pool's work queue carries requests for servers rather than jobs.
func takesRequests(p *config.Pool) bool { return p.Policy.Traits().TakesRequests }

// namesParameter returns the name of the SSM parameter that a pool names as its image; false if it names none.
func namesParameter(p *config.Pool) (string, bool) { return strings.CutPrefix(p.Image, "ssm:") }
