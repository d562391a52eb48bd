package awssetup_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/blob"
	"cloudmaster/services/controller/internal/awssetup"
	"cloudmaster/services/controller/internal/lease"
)

func TestTeardownFindsPoolsThatAreNotInTheFile(t *testing.T) {
	w := newWorld(t)
	w.mustSetUp(w.config("d", ""))
	cfg := w.config("d", "")
	delete(cfg.Pools, "fib")
	out := w.mustTearDown(cfg)
	wants(t, out, "removed security group cloudmaster-d-fib", "removed instance profile cloudmaster-d-eu-west-1-fib",
		"removed role cloudmaster-d-eu-west-1-fib", "removed queue primes-work-d")
	if strings.Contains(out, "fib-work") {
		t.Errorf("got:\n%s\nwant no queue that the file does not name", out)
	}
}

func TestTeardownRefusesWhileTheDeploymentLives(t *testing.T) {
	w := newWorld(t)
	ctx, cfg := t.Context(), w.config("d", "")
	w.mustSetUp(cfg)
	holder, err := json.Marshal(lease.Holder{Host: "elsewhere", PID: 7, RenewedAt: time.Now()})
	try(t, err)
	_, err = w.store().Put(ctx, lease.Key, holder, blob.Any)
	try(t, err)
	out, err := w.teardown(cfg, false)
	if err == nil || !strings.Contains(err.Error(), "process 7 on elsewhere") || strings.Contains(out, "removed") {
		t.Errorf("while a controller holds the lease: got %v and:\n%s\nwant a refusal that names it", err, out)
	}
	try(t, w.store().Delete(ctx, lease.Key))

	started, err := w.ec2.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: aws.String("ami-12345678"), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		TagSpecifications: []ec2types.TagSpecification{{
			ResourceType: ec2types.ResourceTypeInstance,
			Tags: []ec2types.Tag{
				{Key: aws.String("cloudmaster:deployment"), Value: aws.String("d")},
				{Key: aws.String("cloudmaster:pool"), Value: aws.String("gone")},
			},
		}},
	})
	try(t, err)
	id := *started.Instances[0].InstanceId
	out, err = w.teardown(cfg, false)
	if err == nil || !strings.Contains(err.Error(), "instances of the deployment are there: "+id+" (gone, running)") ||
		strings.Contains(out, "removed") {
		t.Errorf("while instances run: got %v and:\n%s\nwant a refusal that names %s", err, out, id)
	}
	_, err = w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	try(t, err)
	w.mustTearDown(cfg)
}

func TestTeardownAsksOnce(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("d", "")
	w.mustSetUp(cfg)
	for _, answer := range []string{"n\n", "y\n"} {
		var out bytes.Buffer
		err := awssetup.Teardown(t.Context(), cfg, awssetup.Options{
			Out: &out, Confirm: awssetup.Ask(strings.NewReader(answer), &out),
		})
		try(t, err)
		if got := out.String(); !strings.Contains(got, "Remove these 22 things?") ||
			strings.Contains(got, "removed ") != (answer == "y\n") {
			t.Errorf("answer %q: got:\n%s", answer, got)
		}
	}
}
