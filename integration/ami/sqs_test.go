package ami

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"testing"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsqueues"
	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/sqsqueue"
)

// TestPrimesOnSQS: a worker whose queues are on SQS gets its credentials from the metadata service, as on EC2.
func TestPrimesOnSQS(t *testing.T) {
	needImage(t, "primes")
	const variable = "LOCALSTACK_ENDPOINT"
	endpoint, err := url.Parse(os.Getenv(variable))
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	if endpoint.Host == "" {
		t.Skipf("set %s to a running LocalStack to boot a worker whose queues are on SQS", variable)
	}
	account := fmt.Sprintf("%012d", rand.Int64N(1e12)) // an account that no other user of a shared LocalStack uses
	t.Setenv("AWS_ACCESS_KEY_ID", account)
	t.Setenv("AWS_SECRET_ACCESS_KEY", account)
	makeQueues(t, endpoint.String())
	address := "aws://eu-west-1?endpoint=" + endpoint.String()
	b, err := backend.Open(t.Context(), address, backend.Openers{"aws": awsqueues.Open}, backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, b, sqsPort, endpoint.Host,
		fmt.Sprintf("aws://eu-west-1?endpoint=http://%s:%d", guestServer, sqsPort))
	w.metadata.SetCredentials(account)
	w.powerOn()
	w.wantStatus(0, message.Idle)
	w.send("1|6573")
	w.wantLog(0, "Processed: 1 6573 primes (65809)")
	w.wantBacklog(0)
	w.pressPower()
	w.wantOff()
	w.wantStoppedWell()
	if w.metadata.Asked("meta-data/iam/security-credentials/guest") == 0 {
		t.Error("the worker did not ask the metadata service for its role's credentials")
	}
}

// makeQueues makes the queues that "controller setup" makes on AWS.
func makeQueues(t *testing.T, endpoint string) {
	t.Helper()
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{Region: "eu-west-1", Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{workQueue, statQueue} {
		limits := queue.Limits{Visibility: visibility}
		if _, err := sqsqueue.Ensure(t.Context(), cfg, name, limits, sqsqueue.Options{}); err != nil {
			t.Fatal(err)
		}
	}
}
