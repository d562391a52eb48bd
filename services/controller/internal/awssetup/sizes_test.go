package awssetup

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/config"
)

// policiesFor are the IAM policies of a deployment with a number of pools in a region, half of them of servers.
func policiesFor(t *testing.T, region string, pools int) *Policies {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "deployment: sample\nbackend: aws://%s\nclouds: {aws: {type: ec2}}\npools:\n", region)
	for i := range pools {
		kind := []string{"policy: job", "policy: resource, active_set_type: blob"}[i%2]
		fmt.Fprintf(&text, "  pool-%02d: {%s, image: x, cloud: aws}\n", i, kind)
	}
	cfg, err := config.Parse("c.yaml", []byte(text.String()), app.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPolicies(t.Context(), cfg, "123456789012", region, "cloudmaster-sample-123456789012-"+region)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFiftyPools: IAM takes the IAM policies of a large deployment, too, and they still name everything.
func TestFiftyPools(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 9, 20, 50} {
		p := policiesFor(t, "ap-southeast-1", n)
		for _, name := range p.Names() {
			doc, _ := p.Named(name)
			if size := doc.size(); size > managedLimit {
				t.Errorf("%d pools: %s has %d characters, and IAM takes %d", n, name, size, managedLimit)
			}
		}
	}
}

// TestPatternsMatchWhatTheyStandFor: a pattern grants all that the single names grant.
func TestPatternsMatchWhatTheyStandFor(t *testing.T) {
	t.Parallel()
	p := policiesFor(t, "eu-west-1", 50)
	for name, exact := range map[string]Document{
		"controller": p.controller(), "setup": p.setup(), "allocator": p.allocator(), "feeder": p.feeder(pools(p.cfg)),
	} {
		given, _ := p.Named(name)
		for i, s := range exact.Statement {
			for _, arn := range s.Resource {
				if !slices.ContainsFunc(given.Statement[i].Resource, func(pattern string) bool {
					ok, err := path.Match(strings.ReplaceAll(pattern, "/", "|"), strings.ReplaceAll(arn, "/", "|"))
					return ok && err == nil
				}) {
					t.Errorf("%s: %s: %s is matched by none of %q", name, s.Sid, arn, given.Statement[i].Resource)
				}
			}
		}
	}
	given := p.Controller()
	for sid, want := range map[string][]string{
		"Hear":         {"arn:aws:sqs:eu-west-1:123456789012:*-status-sample"},
		"TakeRequests": {"arn:aws:sqs:eu-west-1:123456789012:*-work-sample"},
		"GiveRoles":    {"arn:aws:iam::123456789012:role/cloudmaster-sample-eu-west-1-*"},
	} {
		for _, s := range given.Statement {
			if s.Sid == sid && !slices.Equal(s.Resource, want) {
				t.Errorf("%s: got %q, want %q", sid, s.Resource, want)
			}
		}
	}
}

// TestFewPoolsAreNamed: while it fits, each thing is named, because a pattern grants more.
func TestFewPoolsAreNamed(t *testing.T) {
	t.Parallel()
	for _, s := range policiesFor(t, "eu-west-1", 2).Controller().Statement {
		for _, arn := range s.Resource {
			if strings.HasPrefix(arn, "arn:aws:sqs") && strings.Contains(arn, "*") {
				t.Errorf("%s: got %s, want each queue by its name", s.Sid, arn)
			}
		}
	}
}

// TestPolicyWarnsOfLimits: names of an operator's own fit no pattern.
func TestPolicyWarnsOfLimits(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{
		2: "",
		20: " and IAM takes 6144 in a managed policy: put it into a role as an inline policy " +
			"(aws iam put-role-policy), of which a role takes 10240",
		100: " and IAM takes 6144 in a managed policy and 10240 in the inline policies of a role: divide its" +
			" statements among several managed policies",
	} {
		cfg := policiesFor(t, "eu-west-1", 2).cfg
		for i := range n {
			pl := cfg.Pools["pool-01"]
			pl.Name = pool.Name(fmt.Sprintf("more-%d", i))
			pl.Queues = []config.Queue{
				{Use: config.Work, Name: fmt.Sprintf("requests-%d", i)},
				{Use: config.Status, Name: fmt.Sprintf("said-%d", i)},
			}
			cfg.Pools[pl.Name] = pl
		}
		var out, warn strings.Builder
		opts := PolicyOptions{Name: "setup", Account: "123456789012", Out: &out, Warn: &warn}
		err := PrintPolicy(t.Context(), cfg, opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := warn.String(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%d pools: got %q, want %q in it", n, got, want)
		}
		if !strings.HasPrefix(out.String(), "{") {
			t.Errorf("%d pools: got %.100s, want the document", n, &out)
		}
	}
}
