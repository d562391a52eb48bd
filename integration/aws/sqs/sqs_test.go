package sqs_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"cloudmaster/integration/aws/authz"
	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/sqs"
	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/queuetest"
	"cloudmaster/internal/queue/sqsqueue"
)

const account = "123456789012"

// gate asks an authorizer.
type gate struct{ call.Authorizer }

func (g gate) Pass(caller *call.Caller, c call.Call) error { return g.Authorize(caller.Principal, c) }
func (gate) Note(*call.Caller, string)                     {}

// serve starts the fake for a principal, and returns how to reach it.
func serve(t *testing.T, s *sqs.Service, p call.Principal, g call.Gate) aws.Config {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Serve(w, r, call.Caller{
			Principal: p, Region: "eu-west-1", RequestID: rand.Text(), Now: time.Now(), Gate: g,
		})
	}))
	t.Cleanup(srv.Close)
	return aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(srv.URL), Retryer: func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}
}

func root(t *testing.T) (*sqs.Service, aws.Config) {
	t.Helper()
	s := sqs.New()
	return s, serve(t, s, call.Root(account), nil)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	_, cfg := root(t)
	queuetest.Run(t, queuetest.Harness{
		Make: func(t *testing.T, limits queue.Limits) queue.Queue { return ensure(t, cfg, limits) },
		Open: func(ctx context.Context, name string) (queue.Queue, error) {
			return sqsqueue.Open(ctx, cfg, name, sqsqueue.Options{})
		},
		Remove: func(t *testing.T, name string) {
			t.Helper()
			if err := sqsqueue.Remove(t.Context(), cfg, name); err != nil {
				t.Error(err)
			}
		},
		Unit:     2 * time.Second, // whole seconds, and longer than the shortest wait for messages, which is one
		TooLarge: 2 << 20, CancelTakes: true, InertReceipts: true, ExactBacklog: true,
	})
}

func ensure(t *testing.T, cfg aws.Config, limits queue.Limits) *sqsqueue.Queue {
	t.Helper()
	q, err := sqsqueue.Ensure(t.Context(), cfg, "test-"+rand.Text()[:12], limits, sqsqueue.Options{Deployment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func send(t *testing.T, q queue.Queue, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := q.Send(t.Context(), []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
}

func receive(t *testing.T, q queue.Queue) []queue.Message {
	t.Helper()
	got, err := q.Receive(t.Context(), 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestRetention: a message is kept for 14 days from when it was sent first, in the dead letters too.
func TestRetention(t *testing.T) {
	t.Parallel()
	s, cfg := root(t)
	q := ensure(t, cfg, queue.Limits{Deliveries: 1})
	dead, err := sqsqueue.Open(t.Context(), cfg, queue.DeadLetters(q.Name()), sqsqueue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	send(t, q, "old")
	s.Advance(10 * day)
	if got := receive(t, q); len(got) != 1 {
		t.Fatalf("after 10 days: got %d messages, want 1", len(got))
	}
	s.Advance(time.Minute)
	if got := receive(t, q); len(got) != 0 { // this moves it
		t.Fatalf("after its only delivery: got %d messages, want none", len(got))
	}
	if got := receive(t, dead); len(got) != 1 {
		t.Fatalf("dead letters: got %d messages, want 1", len(got))
	}
	s.Advance(4*day - time.Hour)
	if got := receive(t, dead); len(got) != 1 {
		t.Errorf("just before 14 days: got %d dead letters, want 1", len(got))
	}
	s.Advance(2 * time.Hour)
	if got := receive(t, dead); len(got) != 0 {
		t.Errorf("after 14 days: got %d dead letters, want none", len(got))
	}
}

func TestNamesRestAfterDeletion(t *testing.T) {
	t.Parallel()
	s, cfg := root(t)
	q := ensure(t, cfg, queue.Limits{})
	if err := sqsqueue.Remove(t.Context(), cfg, q.Name()); err != nil {
		t.Fatal(err)
	}
	again := func() error {
		_, err := sqsqueue.Ensure(t.Context(), cfg, q.Name(), queue.Limits{}, sqsqueue.Options{})
		return err
	}
	if err := again(); err == nil || !strings.Contains(err.Error(), "wait a minute") {
		t.Errorf("at once: got %v, want the advice to wait", err)
	}
	s.Advance(time.Minute)
	if err := again(); err != nil {
		t.Errorf("after a minute: got %v, want success", err)
	}
}

func TestVisibilityEndsAfterTwelveHours(t *testing.T) {
	t.Parallel()
	s, cfg := root(t)
	q := ensure(t, cfg, queue.Limits{Visibility: 10 * time.Hour})
	send(t, q, "long")
	m := receive(t, q)[0]
	s.Advance(90 * time.Minute)
	if err := q.Extend(t.Context(), m.Receipt); err != nil {
		t.Errorf("to 11.5 hours: got %v, want success", err)
	}
	s.Advance(time.Hour)
	client := sdk.NewFromConfig(cfg)
	url, err := client.GetQueueUrl(t.Context(), &sdk.GetQueueUrlInput{QueueName: aws.String(q.Name())})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.ChangeMessageVisibility(t.Context(), &sdk.ChangeMessageVisibilityInput{
		QueueUrl: url.QueueUrl, ReceiptHandle: aws.String(string(m.Receipt)), VisibilityTimeout: 36000,
	})
	if err == nil || !strings.Contains(err.Error(), "beyond the limit") {
		t.Errorf("to 12.5 hours: got %v, want the limit named", err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s, cfg := root(t)
	q := ensure(t, cfg, queue.Limits{})
	s.Fail("SendMessageBatch", "RequestThrottled", 1)
	if err := q.Send(t.Context(), []byte("x")); !errors.Is(err, queue.ErrThrottled) {
		t.Errorf("throttled: got %v", err)
	}
	s.FailEntries("SendMessageBatch", 1)
	if err := q.Send(t.Context(), []byte("a"), []byte("b")); err == nil || !strings.Contains(err.Error(), "Internal") {
		t.Errorf("one entry fails: got %v, want its error", err)
	}
	if got := receive(t, q); len(got) != 1 || string(got[0].Body) != "b" {
		t.Errorf("got %d messages, want only the entry that did not fail", len(got))
	}
	s.LoseAnswers("SendMessageBatch", 1)
	if err := q.Send(t.Context(), []byte("stored")); err == nil {
		t.Error("lost answer: got no error")
	}
	if got := receive(t, q); len(got) != 1 || string(got[0].Body) != "stored" {
		t.Errorf("lost answer: got %d messages, want the one that was stored", len(got))
	}
	s.Double(1)
	send(t, q, "twice")
	if got := receive(t, q); len(got) != 2 || got[0].ID != got[1].ID {
		t.Errorf("doubled: got %d messages, want two with one id", len(got))
	}
	s.Redeliver(1)
	send(t, q, "again")
	first, second := receive(t, q), receive(t, q)
	if len(first) != 1 || len(second) != 1 || second[0].Deliveries != 2 {
		t.Errorf("redelivered: got %d and %d messages", len(first), len(second))
	}
	s.EmptyPolls(1)
	send(t, q, "hidden")
	if first, second := receive(t, q), receive(t, q); len(first) != 0 || len(second) != 1 {
		t.Errorf("empty poll: got %d and %d messages, want 0 and 1", len(first), len(second))
	}
}

func TestCountsLag(t *testing.T) {
	t.Parallel()
	s, cfg := root(t)
	q := ensure(t, cfg, queue.Limits{})
	s.LagCounts(time.Minute)
	for i, want := range []int{0, 0, 1} {
		got, err := q.Backlog(t.Context())
		if err != nil || got.Visible != want {
			t.Errorf("reading %d: got %+v, %v, want %d", i, got, err, want)
		}
		if i == 0 {
			send(t, q, "x")
		} else {
			s.Advance(2 * time.Minute)
		}
	}
}

// TestSenders: an instance's role shows in the messages with its session, which is the instance's id.
func TestSenders(t *testing.T) {
	t.Parallel()
	s, cfg := root(t)
	q := ensure(t, cfg, queue.Limits{})
	worker := serve(t, s, call.Session(account, "worker", "AROAEXAMPLEEXAMPLE123", "i-0123456789abcdef0"), nil)
	its, err := sqsqueue.Open(t.Context(), worker, q.Name(), sqsqueue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	send(t, its, "status")
	if got := receive(t, q); len(got) != 1 || got[0].Sender != "i-0123456789abcdef0" {
		t.Errorf("got %+v, want the instance as the sender", got)
	}
}

func attributes(t *testing.T, cfg aws.Config, name string) (url, arn string) {
	t.Helper()
	client := sdk.NewFromConfig(cfg)
	out, err := client.GetQueueUrl(t.Context(), &sdk.GetQueueUrlInput{QueueName: &name})
	if err != nil {
		t.Fatal(err)
	}
	attrs, err := client.GetQueueAttributes(t.Context(), &sdk.GetQueueAttributesInput{
		QueueUrl: out.QueueUrl, AttributeNames: []types.QueueAttributeName{"QueueArn"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.QueueUrl, attrs.Attributes["QueueArn"]
}

// TestQueuePolicies: what a queue's own policy gives counts beside what the role has.
func TestQueuePolicies(t *testing.T) {
	t.Parallel()
	s, cfg := root(t)
	q := ensure(t, cfg, queue.Limits{})
	url, arn := attributes(t, cfg, q.Name())
	a := authz.New(nil, s.Policy)
	worker := serve(t, s, call.Session(account, "worker", "AROA1", "i-1"), gate{a})
	_, err := sqsqueue.Open(t.Context(), worker, q.Name(), sqsqueue.Options{})
	if !errors.Is(err, queue.ErrDenied) {
		t.Errorf("without a policy: got %v, want %v", err, queue.ErrDenied)
	}
	if got := a.Refused(); len(got) != 1 || got[0].Action != "sqs:GetQueueUrl" || got[0].Resource != arn {
		t.Errorf("got refusals %v, want one of sqs:GetQueueUrl on %s", got, arn)
	}
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:*","Resource":"` + arn +
		`","Principal":{"AWS":"arn:aws:iam::` + account + `:role/worker"}},` +
		`{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"` + arn +
		`","Principal":{"Service":"events.amazonaws.com"},` +
		`"Condition":{"ArnEquals":{"aws:SourceArn":"arn:aws:events:eu-west-1:` + account + `:rule/ours"}}}]}`
	if _, err := sdk.NewFromConfig(cfg).SetQueueAttributes(t.Context(), &sdk.SetQueueAttributesInput{
		QueueUrl: &url, Attributes: map[string]string{"Policy": policy},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := sqsqueue.Open(t.Context(), worker, q.Name(), sqsqueue.Options{}); err != nil {
		t.Errorf("with a policy: got %v, want success", err)
	}
	rule := "arn:aws:events:eu-west-1:" + account + ":rule/"
	if err := s.Deliver("events.amazonaws.com", rule+"others", arn, "{}"); err == nil {
		t.Error("an event of another rule: got no error")
	}
	if err := s.Deliver("events.amazonaws.com", rule+"ours", arn, "{}"); err != nil {
		t.Errorf("an event of our rule: got %v, want it stored", err)
	}
	if got := receive(t, q); len(got) != 1 {
		t.Errorf("got %d messages, want the event", len(got))
	}
}

// TestErrorsHaveTheirCodes asks for what SQS refuses.
func TestErrorsHaveTheirCodes(t *testing.T) {
	t.Parallel()
	_, cfg := root(t)
	q := ensure(t, cfg, queue.Limits{})
	url, _ := attributes(t, cfg, q.Name())
	c := sdk.NewFromConfig(cfg)
	text := func(n int) *string { return aws.String(strings.Repeat("x", n)) }
	for want, do := range map[string]func() error{
		"AWS.SimpleQueueService.NonExistentQueue": func() error {
			_, err := c.PurgeQueue(t.Context(), &sdk.PurgeQueueInput{QueueUrl: aws.String(url + "x")})
			return err
		},
		"AWS.SimpleQueueService.PurgeQueueInProgress": func() error {
			_, first := c.PurgeQueue(t.Context(), &sdk.PurgeQueueInput{QueueUrl: &url})
			_, err := c.PurgeQueue(t.Context(), &sdk.PurgeQueueInput{QueueUrl: &url})
			if first != nil {
				t.Errorf("first purge: got %v", first)
			}
			return err
		},
		"QueueAlreadyExists": func() error {
			_, err := c.CreateQueue(t.Context(), &sdk.CreateQueueInput{
				QueueName: aws.String(q.Name()), Attributes: map[string]string{"VisibilityTimeout": "77"},
			})
			return err
		},
		"InvalidAttributeName": func() error {
			_, err := c.SetQueueAttributes(t.Context(), &sdk.SetQueueAttributesInput{
				QueueUrl: &url, Attributes: map[string]string{"Colour": "red"},
			})
			return err
		},
		"InvalidAttributeValue": func() error {
			_, err := c.SetQueueAttributes(t.Context(), &sdk.SetQueueAttributesInput{
				QueueUrl: &url, Attributes: map[string]string{"VisibilityTimeout": "43201"},
			})
			return err
		},
		"ReceiptHandleIsInvalid": func() error {
			_, err := c.DeleteMessage(t.Context(), &sdk.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: text(9)})
			return err
		},
		"InvalidParameterValue": func() error {
			_, err := c.SendMessage(t.Context(), &sdk.SendMessageInput{QueueUrl: &url, MessageBody: text(1<<20 + 1)})
			return err
		},
		"AWS.SimpleQueueService.BatchRequestTooLong": func() error {
			_, err := c.SendMessageBatch(t.Context(), &sdk.SendMessageBatchInput{
				QueueUrl: &url, Entries: []types.SendMessageBatchRequestEntry{
					{Id: aws.String("a"), MessageBody: text(1 << 19)},
					{Id: aws.String("b"), MessageBody: text(1<<19 + 1)},
				},
			})
			return err
		},
		"AWS.SimpleQueueService.BatchEntryIdsNotDistinct": func() error {
			_, err := c.SendMessageBatch(t.Context(), &sdk.SendMessageBatchInput{QueueUrl: &url, Entries: slices.Repeat(
				[]types.SendMessageBatchRequestEntry{{Id: aws.String("a"), MessageBody: text(1)}}, 2)})
			return err
		},
		"InvalidMessageContents": func() error {
			_, err := c.SendMessage(t.Context(), &sdk.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("\x01")})
			return err
		},
	} {
		if err := do(); awsconf.Code(err) != want {
			t.Errorf("got %v, want the code %s", err, want)
		}
	}
}
