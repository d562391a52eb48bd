package awssetup_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/awssetup"
	"cloudmaster/services/controller/internal/config"
)

// judged is where integration/aws/authz has the IAM policies whose holders it asks what they may not do, beside those
// in deploy/aws.
const judged = "../../../../integration/aws/authz/testdata"

// judgedPools are so many pools with such long names that patterns stand for the names of their queues, objects and
// roles in all IAM policies.
func judgedPools() string {
	var out strings.Builder
	for i := range 160 {
		policy := []string{"job", "resource, active_set_type: blob, service_port: 80"}[i%2]
		fmt.Fprintf(&out, "  a-pool-with-a-rather-long-nm-%03d: {policy: %s, image: x, cloud: aws}\n", i, policy)
	}
	return out.String()
}

// judgedPolicies are the policies of configurations whose IAM policies differ from the sample's, by file.
func judgedPolicies(t *testing.T) map[string]awssetup.Document {
	t.Helper()
	const boundary = "arn:aws:iam::" + account + ":policy/limits"
	out := make(map[string]awssetup.Document)
	for dir, c := range map[string]struct {
		cloud, pools string
		names        []string
	}{
		"many": {"controller_role: true", judgedPools(), []string{"controller", "allocator", "feeder", "setup"}},
		"bound": {
			"permissions_boundary: " + boundary, "  primes: {policy: job, image: x, cloud: aws}\n", []string{"setup"},
		},
	} {
		cfg, err := config.Parse("c.yaml", []byte("deployment: sample\nbackend: aws://"+region+
			"\nclouds: {aws: {type: ec2, "+c.cloud+"}}\npools:\n"+c.pools), app.Kinds())
		try(t, err)
		p, err := awssetup.NewPolicies(t.Context(), cfg, account, region, "cloudmaster-sample-"+account+"-"+region)
		try(t, err)
		for _, name := range c.names {
			out[dir+"/"+name+".json"], _ = p.Named(name)
		}
	}
	return out
}

// TestJudgedPolicies: the files that integration/aws/authz judges are what is printed.
func TestJudgedPolicies(t *testing.T) {
	t.Parallel()
	for name, doc := range judgedPolicies(t) {
		want, err := doc.Encode()
		try(t, err)
		file := filepath.Join(judged, name)
		if *update {
			try(t, os.WriteFile(file, want, 0o644))
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what policy.go builds (%v): "+
				"go test ./services/controller/internal/awssetup -run Judged -update", file, err)
		}
	}
}
