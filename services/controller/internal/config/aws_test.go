package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
)

const onAWS = `deployment: demo
backend: aws://eu-west-1?endpoint=http%3A%2F%2Flocalhost%3A4566
clouds:
  aws: {type: ec2, instance_type: t3.small, subnets: [subnet-1, subnet-2], market: spot, client_cidrs: [10.0.0.0/8]}
  far: {type: ec2, region: us-east-1, endpoint: "http://far:1", audit_instance_interval: 2m, image_owners: [aws, self]}
pools:
  a: {image: x, cloud: aws}
  b: {image: x, cloud: aws, instance_type: t3.large, subnets: [subnet-3], security_groups: [sg-1], instance_profile: p,
    key_name: k, market: on-demand, client_cidrs: [0.0.0.0/0]}
  c: {image: x, cloud: far}
`

func TestEC2(t *testing.T) {
	t.Parallel()
	cfg, err := parse(onAWS)
	if err != nil {
		t.Fatal(err)
	}
	want := map[pool.Name]*ec2cloud.Machine{
		"a": {}, "c": {},
		"b": {
			InstanceType: "t3.large", Subnets: []string{"subnet-3"}, SecurityGroups: []string{"sg-1"},
			InstanceProfile: "p",
			KeyName:         "k", Market: "on-demand", ClientCIDRs: []string{"0.0.0.0/0"},
		},
	}
	for name, p := range cfg.Pools {
		if diff := cmp.Diff(want[name], machine(t, &p)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, want := range map[pool.CloudName]*ec2cloud.Settings{
		"aws": {ImageOwners: []string{"self"}, Rebalance: "replace", Machine: ec2cloud.Machine{
			InstanceType: "t3.small", Subnets: []string{"subnet-1", "subnet-2"}, Market: "spot",
			Zones:       "in-order",
			ClientCIDRs: []string{"10.0.0.0/8"},
		}},
		"far": {
			Region: "us-east-1", Endpoint: "http://far:1", ImageOwners: []string{"aws", "self"}, Rebalance: "replace",
			Machine: ec2cloud.Machine{InstanceType: "t3.micro", Zones: "in-order", Market: "on-demand"},
		},
	} {
		if diff := cmp.Diff(want, cfg.Clouds[name].Settings); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if aws, far := cfg.Clouds["aws"].AuditInterval, cfg.Clouds["far"].AuditInterval; aws != time.Minute ||
		far != 2*time.Minute {
		t.Errorf("audit intervals: got %s and %s, want 1m and 2m", aws, far)
	}
}

// machine is what a pool on EC2 says of its instances.
func machine(t *testing.T, p *config.Pool) *ec2cloud.Machine {
	t.Helper()
	m, ok := p.OnCloud.(*ec2cloud.Machine)
	if !ok {
		t.Fatalf("pool %s: got %T", p.Name, p.OnCloud)
	}
	return m
}

// TestListsOfPoolsAreTheirOwn: one pool's list leaves the defaults, and so the others', alone.
func TestListsOfPoolsAreTheirOwn(t *testing.T) {
	t.Parallel()
	doc := strings.Replace(onAWS, "pools:\n",
		"defaults: {subnets: [subnet-7, subnet-8], client_cidrs: [10.1.0.0/16]}\npools:\n", 1)
	cfg, err := parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a": "[subnet-7 subnet-8] [10.1.0.0/16]", "b": "[subnet-3] [0.0.0.0/0]",
		"c": "[subnet-7 subnet-8] [10.1.0.0/16]",
	} {
		p := cfg.Pools[pool.Name(name)]
		m := machine(t, &p)
		if got := fmt.Sprint(m.Subnets, m.ClientCIDRs); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestEC2Environment(t *testing.T) {
	t.Setenv("CLOUDMASTER_CLOUDS_AWS_SUBNETS", "subnet-7,subnet-8")
	t.Setenv("CLOUDMASTER_POOLS_A_INSTANCE_TYPE", "m1.tiny")
	cfg, err := parse(onAWS)
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Pools["a"]
	cloud, ok := cfg.Clouds["aws"].Settings.(*ec2cloud.Settings)
	if got := machine(t, &p); !ok || got.InstanceType != "m1.tiny" ||
		strings.Join(cloud.Subnets, " ") != "subnet-7 subnet-8" {
		t.Errorf("got %+v on %+v", got, cloud)
	}
}

func TestEC2Complaints(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ old, new, want string }{
		"embedded": {
			"backend: aws://eu-west-1?endpoint=http%3A%2F%2Flocalhost%3A4566", "backend: embedded",
			"c.yaml:2: backend: instances on other machines cannot reach the embedded broker",
		},
		"no region to tell": {
			"backend: aws://eu-west-1?endpoint=http%3A%2F%2Flocalhost%3A4566", "backend: aws://",
			`c.yaml:2: backend: "aws://" names no region, and instances are told this address`,
		},
		"region": {
			"region: us-east-1", "region: moon", `c.yaml:5: clouds.far.region: "moon" is not an AWS region`,
		},
		"endpoint": {
			`endpoint: "http://far:1"`, "endpoint: far", `c.yaml:5: clouds.far: endpoint "far" is not a URL`,
		},
		"subnet":              {"subnet-3", "net-3", `c.yaml:8: pools.b: subnet "net-3": want an id`},
		"subnet of the cloud": {"subnet-1", "net-1", `c.yaml:4: clouds.aws: subnet "net-1": want an id`},
		"no region, another way": {
			"backend: aws://eu-west-1?endpoint=http%3A%2F%2Flocalhost%3A4566", "backend: aws:///?bucket=abc",
			"names no region",
		},
		"no region for workers": {
			"deployment: demo", "deployment: demo\nworker_backend: aws://",
			`c.yaml:2: worker_backend: "aws://" names no region`,
		},
		"bucket": {
			"deployment: demo", "deployment: this-is-a-deployment-of-32-chars",
			"c.yaml:1: deployment: is too long: its bucket would be called " +
				"cloudmaster-this-is-a-deployment-of-32-chars-123456789012-eu-west-1",
		},
		"visibility": {
			"market: on-demand", "visibility_timeout: 13h",
			"c.yaml:8: pools.b: visibility timeout is 13h0m0s, SQS has 0 to 12h0m0s",
		},
		"market": {
			"market: spot", "market: flea",
			`clouds.aws.market: "flea" is not on-demand, spot, or a mapping as {spot: 70%, fallback: on-demand}`,
		},
		"share of spot": {
			"market: spot", "market: {spot: 170%}", "clouds.aws.market: spot: 170% is not a percentage from 0% to 100%",
		},
		"fallback without spot": {
			"market: spot", "market: {fallback: on-demand}", "clouds.aws.market: spot: is missing",
		},
		"word of the market": {
			"market: spot", "market: {spot: 70%, price: 1}", "clouds.aws.market: price: unknown key",
		},
		"zones": {"market: spot", "zones: level", `clouds.aws.zones: "level" is not in-order or balanced`},
		"zones without subnets": {
			"subnets: [subnet-3]", "subnets: [subnet-3], zones: balanced",
			"pools.b.zones: balanced needs two subnets or more, and there are 1",
		},
		"two words for types": {
			"instance_type: t3.large", "instance_type: t3.large, instance_types: [m5.large]",
			"pools.b.instance_type: there is also instance_types",
		},
		"type": {
			"instance_type: t3.large", "instance_type: large", `pools.b: instance type "large": want one as t3.micro`,
		},
		"Amazon's tag": {
			"key_name: k", `tags: {"aws:x": y}`, `pools.b.tags: key "aws:x": aws: is for Amazon's own tags`,
		},
		"our tag": {
			"key_name: k", `tags: {"cloudmaster:pool": y}`, `pools.b.tags: key "cloudmaster:pool": CloudMaster writes`,
		},
		"volume":  {"key_name: k", "volume_size: 70000", "pools.b.volume_size: 70000 GiB: want 1 to 65536"},
		"credits": {"key_name: k", "credits: gold", `pools.b.credits: "gold" is not standard or unlimited`},
		"clients": {
			"[0.0.0.0/0]", "[10.0.0.1/8]", `pools.b.client_cidrs: "10.0.0.1/8" is not a block of addresses`,
		},
		"key of processes": {
			"region: us-east-1", "bin_dir: x", "clouds.far.bin_dir: is only for clouds of type process",
		},
		"key of EC2": {
			"type: ec2, instance_type", "type: process, instance_type",
			"clouds.aws.instance_type: is only for clouds of type ec2",
		},
		"pool of processes": {
			"type: ec2, instance_type: t3.small, subnets: [subnet-1, subnet-2], market: spot, " +
				"client_cidrs: [10.0.0.0/8]",
			"type: process", "pools.b.instance_type: is only for pools on a cloud of type ec2",
		},
		"type of cloud": {
			"type: ec2, region", "type: mainframe, region",
			`"mainframe" is not a type of cloud: there are process, ec2`,
		},
		"not a list": {
			"subnets: [subnet-3]", "subnets: {a: b}", "pools.b.subnets: {a: b} is not a list of words",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := strings.Replace(onAWS, c.old, c.new, 1)
			if doc == onAWS {
				t.Fatalf("%q is not in the document", c.old)
			}
			_, err := parse(doc)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got\n%v\nwant it to say\n%s", err, c.want)
			}
		})
	}
}
