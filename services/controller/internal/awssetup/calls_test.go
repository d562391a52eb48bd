package awssetup_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/backend/awsqueues"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/awssetup"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/lease"
)

// recorder notes the IAM actions of calls.
type recorder struct {
	mu      sync.Mutex
	actions map[string]bool
}

func (r *recorder) count(service, operation string, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.actions == nil {
		r.actions = make(map[string]bool)
	}
	r.actions[awsconf.Action(service, operation)] = true
}

// compare wants a policy to grant what was called and what the calls imply, and nothing else.
func (r *recorder) compare(t *testing.T, doc awssetup.Document, implied ...string) {
	t.Helper()
	granted := make(map[string]bool)
	for _, s := range doc.Statement {
		for _, a := range s.Action {
			granted[a] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	need := maps.Clone(r.actions)
	for _, a := range implied {
		need[a] = true
	}
	for _, a := range slices.Sorted(maps.Keys(need)) {
		if !granted[a] {
			t.Errorf("%s is called and not granted", a)
		}
	}
	for _, a := range slices.Sorted(maps.Keys(granted)) {
		if !need[a] {
			t.Errorf("%s is granted and not called", a)
		}
	}
}

// inOrder answers each service as if the sample were set up.
func inOrder(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		switch target, action := r.Header.Get("X-Amz-Target"), form.Get("Action"); {
		case strings.HasPrefix(target, "AmazonSQS."):
			io.WriteString(w, answerSQS(body)) //nolint:errcheck // the client sees it
		case target == "AmazonSSM.GetParameter":
			io.WriteString(w, `{"Parameter":{"Value":"ami-0123456789abcdef0"}}`) //nolint:errcheck // the client sees it
		case r.Header.Get("Smithy-Protocol") != "": // CloudWatch: an empty map in CBOR
			w.Header().Set("Smithy-Protocol", r.Header.Get("Smithy-Protocol"))
			io.WriteString(w, "\xa0") //nolint:errcheck // the client sees it
		case action != "":
			fmt.Fprintf(w, "<%sResponse>%s</%sResponse>", action, answerXML[action], action)
		default: // S3
			w.Header().Set("ETag", `"tag"`)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

var answerXML = map[string]string{
	"GetCallerIdentity": "<GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>",
	"DescribeImages": "<imagesSet><item><imageId>ami-0123456789abcdef0</imageId><creationDate>" +
		"2026-01-01</creationDate></item></imagesSet>",
	"DescribeSecurityGroups": "<securityGroupInfo><item><groupId>sg-1</groupId></item></securityGroupInfo>",
	"RunInstances":           "<instancesSet><item><instanceId>i-0123456789abcdef0</instanceId></item></instancesSet>",
	"DescribeInstances": "<reservationSet><item><instancesSet><item><instanceId>i-0123456789abcdef0</instanceId>" +
		"</item></instancesSet></item></reservationSet>",
	"CreateTags": "<return>true</return>",
}

// answerSQS has all that any operation of SQS answers. The attributes are those that setup gives.
func answerSQS(body []byte) string {
	var in struct {
		QueueName string
		QueueURL  string `json:"QueueUrl"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return err.Error()
	}
	name := in.QueueName + in.QueueURL[strings.LastIndex(in.QueueURL, "/")+1:]
	retention, deliveries := "1209600", 1000
	if strings.HasPrefix(name, "primes-work") {
		deliveries = 5
	}
	redrive := fmt.Sprintf(`{"deadLetterTargetArn":"arn:%s-dead","maxReceiveCount":%d}`, name, deliveries)
	visibility := "30"
	if strings.HasPrefix(name, "primes-work") {
		visibility = "120"
	}
	out, _ := json.Marshal(map[string]any{
		"QueueUrl": "http://q/" + name, "Messages": []any{
			map[string]string{"MessageId": "m", "Body": "b", "ReceiptHandle": "r"},
		},
		"Attributes": map[string]string{
			"QueueArn": "arn:" + name, "VisibilityTimeout": visibility, "RedrivePolicy": redrive,
			"MessageRetentionPeriod": retention,
			"MaximumMessageSize":     "1048576", "SqsManagedSseEnabled": "true", "ApproximateNumberOfMessages": "1",
			"ApproximateNumberOfMessagesNotVisible": "0",
		},
	})
	return string(out)
}

// reach is a program's backend on a service where all is in order.
func reach(t *testing.T, open backend.Opener, rec *recorder) backend.Backend {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	address := "aws://" + region + "?" + url.Values{"endpoint": {inOrder(t)}}.Encode()
	b, err := backend.Open(t.Context(), address, backend.Openers{"aws": open}, backend.Options{
		Deployment: "sample", Client: "test", Count: rec.count,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// try fails the test if something went wrong.
func try(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func opened(t *testing.T, b backend.Backend, name string) queue.Queue {
	t.Helper()
	q, err := b.Queue(t.Context(), name)
	try(t, err)
	return q
}

func receive(t *testing.T, q queue.Queue) queue.Message {
	t.Helper()
	msgs, err := q.Receive(t.Context(), 1, 0)
	try(t, err)
	return msgs[0]
}

func TestWorkersCallWhatTheirPolicyGrants(t *testing.T) {
	docs := documents(t)
	t.Run("primes-worker", func(t *testing.T) {
		var rec recorder
		b := reach(t, awsqueues.Open, &rec)
		jobs := opened(t, b, "primes-work-sample")
		m := receive(t, jobs)
		try(t, opened(t, b, "primes-status-sample").Send(t.Context(), []byte("s")), jobs.Extend(t.Context(), m.Receipt),
			jobs.Release(t.Context(), m.Receipt),
			jobs.Delete(t.Context(), m.Receipt), jobs.Bury(t.Context(), m, "bad"))
		rec.compare(t, docs["primes-worker"])
	})
	for program, queues := range map[string][]string{
		"fib-server":  {"fib-status-sample"},
		"feed-primes": {"primes-work-sample", "cloudmaster-sample-hints"},
	} {
		t.Run(program, func(t *testing.T) {
			var rec recorder
			b := reach(t, awsqueues.Open, &rec)
			for _, name := range queues {
				try(t, opened(t, b, name).Send(t.Context(), []byte("s")))
			}
			rec.compare(t, docs[program])
		})
	}
	t.Run("allocator", func(t *testing.T) {
		var rec recorder
		b := reach(t, awsbackend.Open, &rec)
		store, err := b.Blobs(t.Context())
		try(t, err)
		_, err = store.Get(t.Context(), activeset.Key("fib"), "")
		try(t, err, opened(t, b, "fib-work-sample").Send(t.Context(), []byte("s")),
			opened(t, b, "cloudmaster-sample-hints").Send(t.Context(), []byte("hint")))
		rec.compare(t, docs["allocator"])
	})
}

func TestControllerCallsWhatItsPolicyGrants(t *testing.T) {
	var rec recorder
	cfg := sample(t)
	b := reach(t, asController, &rec)
	controlQueues(t, b, cfg)
	ager, ok := b.(queue.Ager)
	if !ok {
		t.Fatal("the controller's backend does not know how old messages are")
	}
	_, err := ager.Ages(t.Context(), "primes-work-sample")
	try(t, err)
	store, err := b.Blobs(t.Context())
	try(t, err)
	try(t, lease.Free(t.Context(), store, time.Now))
	_, err = store.Put(t.Context(), lease.Key, []byte("x"), blob.Any)
	try(t, err)
	launch(t, cfg, &rec)
	rec.compare(t, documents(t)["controller"], "iam:PassRole") // RunInstances gives the role
}

// asController opens the backend as the controller does.
func asController(ctx context.Context, address *url.URL, opts backend.Options) (backend.Backend, error) {
	opened, err := awsbackend.Kind().Open(ctx, address.String(), nil, opts)
	return opened.Backend, err
}

// controlQueues does with the sample's queues what the controller does.
func controlQueues(t *testing.T, b backend.Backend, cfg *config.Config) {
	t.Helper()
	ctx := t.Context()
	for _, p := range cfg.Pools {
		opened := make(map[config.Use]queue.Queue)
		for _, q := range p.Queues {
			var err error
			opened[q.Use], err = b.Ensure(ctx, q.Name, q.Limits)
			try(t, err)
		}
		work, status := opened[config.Work], opened[config.Status]
		_, err := work.Backlog(ctx)
		try(t, err, status.Delete(ctx, receive(t, status).Receipt))
		if p.Policy.Traits().TakesRequests {
			m := receive(t, work)
			try(t, work.Extend(ctx, m.Receipt), work.Release(ctx, m.Receipt), work.Delete(ctx, m.Receipt))
		}
	}
}

// launch does with instances what the controller does.
func launch(t *testing.T, cfg *config.Config, rec *recorder) {
	t.Helper()
	ctx := t.Context()
	loaded, err := awsconf.Load(ctx, awsconf.Options{Region: region, Endpoint: inOrder(t), Count: rec.count})
	try(t, err)
	p := cfg.Pools["primes"]
	set, ok := cfg.Clouds[p.Cloud].Settings.(*ec2cloud.Settings)
	if !ok {
		t.Fatalf("got settings %T", cfg.Clouds[p.Cloud].Settings)
	}
	machines, err := ec2cloud.Open(ctx, loaded, "sample",
		ec2cloud.Options{Pool: func(name pool.Name) (ec2cloud.Launch, bool) {
			return set.Launch(cfg.Deployment, region, name, p.OnCloud), true
		}})
	try(t, err)
	for i, image := range []string{p.Image, "ssm:/cloudmaster/primes"} {
		started, err := machines.Launch(ctx, cloud.Spec{
			Token: fmt.Sprint("token-", i), Count: 1, Image: image, Tags: map[string]string{cloud.TagPool: "primes"},
			UserData: func(pool.InstanceID) ([]byte, error) { return []byte("x"), nil },
		})
		try(t, err)
		try(t, machines.Tag(ctx, map[string]string{cloud.TagState: "active"}, started[0].ID),
			machines.Terminate(ctx, started[0].ID))
	}
	_, err = machines.List(ctx)
	try(t, err)
	_, err = machines.Check(ctx)
	try(t, err)
}

// refusing denies everything.
func refusing(t *testing.T, code string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `<ErrorResponse><Error><Code>%s</Code><Message>no</Message></Error></ErrorResponse>`, code)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestDeniedSaysWhatToDo(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for code, want := range map[string]string{
		"AccessDenied":         "sts:GetCallerIdentity is denied to setup; deploy/aws/setup.json grants it",
		"InvalidClientTokenId": "its AWS credentials are wrong or have run out: renew them",
	} {
		cfg := onAWS(t, refusing(t, code), "d", "")
		if err := awssetup.Setup(ctx, cfg, awssetup.Options{Out: io.Discard}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", code, err, want)
		}
	}
}
