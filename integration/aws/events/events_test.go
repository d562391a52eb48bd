package events_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"cloudmaster/integration/aws/awsfake"
	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/events"
	"cloudmaster/internal/awsconf"
)

const region = "eu-west-1"

// bus is a fake that is served, and what its rules send.
type bus struct {
	*events.Service
	*eventbridge.Client

	sent []string // "source queue" of each event that was delivered
}

func newBus(t *testing.T) *bus {
	t.Helper()
	b := &bus{}
	b.Service = events.New(func(_, source, queue, _ string) error {
		b.sent = append(b.sent, source+" "+queue)
		return nil
	})
	f, err := awsfake.Start(t.Context(), awsfake.Options{Services: map[string]call.Service{events.Name: b.Service}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	b.Client = eventbridge.New(eventbridge.Options{
		Region: region, BaseEndpoint: aws.String(f.URL()),
		Credentials: credentials.NewStaticCredentialsProvider("admin", "secret", ""),
	})
	return b
}

const jobs = "arn:aws:sqs:eu-west-1:123456789012:jobs"

// rule makes a rule with a target.
func (b *bus) rule(t *testing.T, name, pattern string) {
	t.Helper()
	_, err := b.PutRule(t.Context(), &eventbridge.PutRuleInput{
		Name: &name, EventPattern: &pattern, Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.PutTargets(t.Context(), &eventbridge.PutTargetsInput{
		Rule: &name, Targets: []types.Target{{Id: aws.String("1"), Arn: aws.String(jobs)}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDelivery: an event goes to the targets of the rules in its region that match it.
func TestDelivery(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	b.rule(t, "ends", `{"source":["aws.ec2"],"detail":{"state":["stopping","terminated"]}}`)
	b.rule(t, "other", `{"source":["aws.health"]}`)
	for _, e := range []struct{ region, state string }{
		{region, "running"}, {"eu-west-2", "terminated"}, {region, "terminated"},
	} {
		err := b.Put(&events.Event{
			Account: "123456789012", Region: e.region, Source: "aws.ec2", At: time.Now(),
			Detail: map[string]any{"state": e.state},
		})
		if err != nil {
			t.Error(err)
		}
	}
	want := "arn:aws:events:eu-west-1:123456789012:rule/ends " + jobs
	if len(b.sent) != 1 || b.sent[0] != want {
		t.Errorf("got %q, want one delivery, %s", b.sent, want)
	}
}

// TestLifeOfARule: what was put is described, a rule with targets cannot be deleted, and one that is gone is not found.
func TestLifeOfARule(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	name, ctx := aws.String("ends"), t.Context()
	b.rule(t, *name, `{"source":["aws.ec2"]}`)
	have, err := b.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: name})
	if err != nil || *have.EventPattern != `{"source":["aws.ec2"]}` || have.State != types.RuleStateEnabled {
		t.Fatalf("got %+v and %v, want the rule, enabled", have, err)
	}
	tags, err := b.ListTagsForResource(ctx, &eventbridge.ListTagsForResourceInput{ResourceARN: have.Arn})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Value != "a" {
		t.Errorf("got %+v and %v, want one tag", tags, err)
	}
	targets, err := b.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{Rule: name})
	if err != nil || len(targets.Targets) != 1 || *targets.Targets[0].Arn != jobs {
		t.Errorf("got %+v and %v, want one target", targets, err)
	}
	if _, err := b.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: name}); err == nil {
		t.Error("a rule with targets was deleted")
	}
	_, err = b.RemoveTargets(ctx, &eventbridge.RemoveTargetsInput{Rule: name, Ids: []string{"1"}})
	if err == nil {
		_, err = b.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: name})
	}
	if err != nil || len(b.All()) > 0 {
		t.Errorf("got %v, and %q are left", err, b.All())
	}
	_, err = b.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: name})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok || awsconf.Code(err) == "" {
		t.Errorf("got %v, want ResourceNotFoundException", err)
	}
}

func TestBadPatterns(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	for _, pattern := range []string{
		`{`, `{}`, `{"source":"aws.ec2"}`, `{"source":[]}`, `{"source":[{"prefix":"a"}]}`,
	} {
		_, err := b.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String("r"), EventPattern: &pattern})
		if code := awsconf.Code(err); code != "InvalidEventPatternException" {
			t.Errorf("%s: got %v, want InvalidEventPatternException", pattern, err)
		}
	}
}
