package awssetup_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/queue/sqsqueue"
)

// bus is EventBridge in this world.
func (w *world) bus() *eventbridge.Client { return eventbridge.NewFromConfig(w.aws) }

// TestEventsReachTheQueue: what EventBridge would send comes to the deployment's queue, and can be read. AWS lets
// nobody else put events of aws.ec2; LocalStack does.
func TestEventsReachTheQueue(t *testing.T) {
	w := newWorld(t)
	w.mustSetUp(w.config("d", ""))
	q, err := sqsqueue.Open(t.Context(), w.aws, "cloudmaster-d-events", sqsqueue.Options{})
	try(t, err)
	const about = `{"instance-id":"i-0123456789abcdef0"`
	for _, e := range []struct {
		kind, detail string
		want         cloud.Saying // 0: no rule asks for it
	}{
		{"EC2 Spot Instance Interruption Warning", about + `,"instance-action":"terminate"}`, cloud.Ends},
		{"EC2 Instance Rebalance Recommendation", about + `}`, cloud.Ends},
		{"EC2 Instance State-change Notification", about + `,"state":"running"}`, 0},
		{"EC2 Instance State-change Notification", about + `,"state":"stopping"}`, cloud.Changed},
	} {
		entry := ebtypes.PutEventsRequestEntry{Source: aws.String("aws.ec2"), DetailType: &e.kind, Detail: &e.detail}
		out, err := w.bus().PutEvents(t.Context(), &eventbridge.PutEventsInput{
			Entries: []ebtypes.PutEventsRequestEntry{entry},
		})
		try(t, err)
		if out.FailedEntryCount > 0 {
			t.Fatalf("%s: LocalStack refuses it: %+v", e.kind, out.Entries)
		}
		wait := 10 * time.Second
		if e.want == 0 {
			wait = time.Second
		}
		got, err := q.Receive(t.Context(), 10, wait)
		try(t, err)
		if e.want == 0 {
			if len(got) != 0 {
				t.Errorf("%s: got %s, want nothing", e.kind, got[0].Body)
			}
			continue
		}
		if len(got) != 1 {
			t.Fatalf("%s: got %d messages, want one", e.kind, len(got))
		}
		said, err := ec2cloud.ParseEvent(got[0].Body, ec2cloud.RebalanceReplace)
		if err != nil || said.Says != e.want || len(said.Instances) != 1 || said.Instances[0] != "i-0123456789abcdef0" {
			t.Errorf("%s: got %+v, %v of %s", e.kind, said, err, got[0].Body)
		}
		try(t, q.Delete(t.Context(), got[0].Receipt))
	}
}

// TestRulesAreCorrected: what differs is put right, and what setup did not make is refused or left.
func TestRulesAreCorrected(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("d", "")
	w.mustSetUp(cfg)
	const changes, health = "cloudmaster-d-events-changes", "cloudmaster-d-events-health"
	_, err := w.bus().DisableRule(t.Context(), &eventbridge.DisableRuleInput{Name: aws.String(changes)})
	try(t, err)
	_, err = w.bus().RemoveTargets(t.Context(), &eventbridge.RemoveTargetsInput{
		Rule: aws.String(health), Ids: []string{"controller"},
	})
	try(t, err, sqsqueue.SetRights(t.Context(), w.aws, "cloudmaster-d-events", `{"Version":"2012-10-17","Statement":[{`+
		`"Effect":"Allow","Principal":"*","Action":"sqs:*","Resource":"*"}]}`))
	wants(t, w.mustSetUp(cfg),
		"change queue policy cloudmaster-d-events: it does not let in what it should, or more",
		"keep event rule cloudmaster-d-events-interruptions", "change event rule "+changes+": it is disabled",
		"change event rule "+health+": it does not send to the queue", "changed event rule "+health)
	if out := w.mustSetUp(cfg); !strings.HasSuffix(out, nothingToDo) {
		t.Errorf("got:\n%s\nwant nothing to do", out)
	}
	rights, _, err := sqsqueue.Rights(t.Context(), w.aws, "cloudmaster-d-events")
	try(t, err)
	for _, want := range []string{
		`"Service":"events.amazonaws.com"`, "events:eu-west-1:" + w.account + ":rule/" + changes,
		`"aws:SourceAccount":"` + w.account + `"`,
	} {
		if !strings.Contains(rights, want) {
			t.Errorf("got %s, want %s in it", rights, want)
		}
	}
}

// TestRulesOfOthersAreLeft, and refused if they do something else.
func TestRulesOfOthersAreLeft(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("d", "")
	_, err := w.bus().PutRule(t.Context(), &eventbridge.PutRuleInput{
		Name: aws.String("cloudmaster-d-events-health"), EventPattern: aws.String(`{"source":["mine"]}`),
	})
	try(t, err)
	const want = "event rule cloudmaster-d-events-health was not made by setup for this deployment"
	if _, err := w.setup(cfg, false); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it refused", err)
	}
	wants(t, w.mustTearDown(cfg)+"\n", "leave event rule cloudmaster-d-events-health (not made by setup)")
}
