package awssetup_test

import (
	"slices"
	"testing"

	"cloudmaster/services/controller/internal/awssetup"
)

// TestOnlyWarmPoolsStopAndStart: a controller may stop and start instances only if a pool keeps some stopped, and then
// only the deployment's.
func TestOnlyWarmPoolsStopAndStart(t *testing.T) {
	t.Parallel()
	for _, warm := range []int{0, 1} {
		cfg := sample(t)
		p := cfg.Pools["fib"]
		p.Warm = warm
		cfg.Pools["fib"] = p
		policies, err := awssetup.NewPolicies(t.Context(), cfg, account, region, "bucket")
		try(t, err)
		found := 0
		for _, s := range policies.Controller().Statement {
			if !slices.Contains(s.Action, "ec2:StartInstances") && !slices.Contains(s.Action, "ec2:StopInstances") {
				continue
			}
			found++
			bound := s.Condition["StringEquals"]["ec2:ResourceTag/cloudmaster:deployment"]
			if len(s.Action) != 2 || !slices.Equal(bound, []string{"sample"}) || slices.Contains(s.Resource, "*") {
				t.Errorf("got %+v, want both actions on instances of deployment sample", s)
			}
		}
		if found != warm {
			t.Errorf("with %d warm: got %d statements that let instances be stopped", warm, found)
		}
	}
}
