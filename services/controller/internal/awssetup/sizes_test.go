package awssetup

import (
	"fmt"
	"strings"
	"testing"

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
