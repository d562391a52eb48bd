package walkthrough

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iampolicy"
)

// TestStoryEvents: an event of EventBridge about an instance has it replaced, with the cloud's word in the report:
// after a spot notice, and after a recommendation to rebalance. What a stranger sends the queue's policy refuses.
func TestStoryEvents(t *testing.T) {
	s := newStory(t, plot{pools: steady, defaults: map[string]string{"market": "spot"}})
	s.controllerStarts()
	s.sees("two workers", s.has(2, "primes", "active"))
	first := s.of(s.images["primes-worker"])
	s.intrudes(first[0])

	for i, e := range []struct{ event, word string }{
		{"EC2 Spot Instance Interruption Warning", "spot notice"},
		{"EC2 Instance Rebalance Recommendation", "rebalance recommendation"},
	} {
		detail := map[string]any{"instance-id": first[i]}
		if i == 0 {
			detail["instance-action"] = "terminate"
		}
		mark := s.controller.Mark()
		s.amazon.happens(s.region, e.event, first[i], detail)
		s.reports(mark, "primes ", first[i], "interrupted: ", "the cloud says: "+e.word)
		s.sees("another one in its place", func() (string, bool) {
			text, two := s.has(2, "primes", "active")()
			return text, two && s.ended(first[i])
		})
	}
	if all := s.of(s.images["primes-worker"]); len(all) != 4 {
		t.Errorf("got instances %q in all, want 4: each of two was replaced once", all)
	}
}

// intrudes sends events about an instance that is not interrupted, as everybody but EventBridge with the rules of this
// deployment. All of them are refused.
func (s *story) intrudes(instance string) {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{
		"source": "aws.ec2", "detail-type": "EC2 Instance Rebalance Recommendation",
		"detail": map[string]any{"instance-id": instance},
	})
	s.must(err)
	const name = "cloudmaster-" + deployment + "-events"
	arn := func(account, service, resource string) string {
		return "arn:" + call.Partition + ":" + service + ":" + s.region + ":" + account + ":" + resource
	}
	queue, ours := arn(s.account, "sqs", name), arn(s.account, "events", "rule/"+name+"-interruptions")
	for _, who := range []struct{ service, source string }{
		{"s3.amazonaws.com", ours},
		{"events.amazonaws.com", arn(s.account, "events", "rule/another")},
		{"events.amazonaws.com", arn(strangers, "events", "rule/"+name+"-interruptions")},
	} {
		if err := s.amazon.sqs.Deliver(who.service, who.source, queue, string(body)); err == nil ||
			!strings.Contains(err.Error(), "AccessDenied") {
			s.t.Errorf("%s for %s: got %v, want it refused", who.service, who.source, err)
		}
	}
	s.must(s.amazon.rights.Grant(strangerARN, mayAll(s.t)))
	const key = "AKIASTRANGER"
	s.amazon.AddKey(key, call.Principal{Account: strangers, ARN: strangerARN, UserID: "AIDASTRANGER"})
	client := sqs.New(sqs.Options{
		Region: s.region, BaseEndpoint: s.ec2.Options().BaseEndpoint,
		Credentials: credentials.NewStaticCredentialsProvider(key, "secret", ""),
	})
	_, err = client.SendMessage(s.t.Context(), &sqs.SendMessageInput{
		QueueUrl: s.queueURL(name), MessageBody: aws.String(string(body)),
	})
	if err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		s.t.Errorf("a user of another account: got %v, want it refused", err)
	}
}

// mayAll lets its holder send to any queue that lets him.
func mayAll(t testing.TB) *iampolicy.Document {
	t.Helper()
	doc, err := iampolicy.Parse("stranger", iampolicy.Identity, []byte(`{"Version":"2012-10-17","Statement":[{`+
		`"Effect":"Allow","Action":"sqs:SendMessage","Resource":"*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
