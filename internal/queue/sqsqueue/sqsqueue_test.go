package sqsqueue_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/queuetest"
	"cloudmaster/internal/queue/sqsqueue"
)

// localstack returns the AWS configuration for the LocalStack that the environment names, and skips
// the test if it names none.
func localstack(t *testing.T) aws.Config {
	t.Helper()
	endpoint := os.Getenv("LOCALSTACK_ENDPOINT")
	if endpoint == "" {
		t.Skip("LOCALSTACK_ENDPOINT names no LocalStack to test against")
	}
	return configured(t, endpoint)
}

func configured(t *testing.T, endpoint string) aws.Config {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{
		Region: "eu-west-1", Endpoint: endpoint, Client: "controller",
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func remove(t *testing.T, client *sqs.Client, name string) {
	t.Helper()
	url, err := client.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(name)})
	if err == nil {
		_, err = client.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: url.QueueUrl})
	}
	if err != nil {
		t.Errorf("remove queue %s: %v", name, err)
	}
}

func ensure(t *testing.T, cfg aws.Config, limits queue.Limits) *sqsqueue.Queue {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:12])
	q, err := sqsqueue.Ensure(t.Context(), cfg, name, limits, sqsqueue.Options{Deployment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, client := context.WithoutCancel(t.Context()), sqs.NewFromConfig(cfg)
		for _, n := range []string{name, queue.DeadLetters(name)} {
			if url, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(n)}); err == nil {
				_, _ = client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: url.QueueUrl})
			}
		}
	})
	return q
}

func TestConformance(t *testing.T) {
	cfg := localstack(t)
	queuetest.Run(t, queuetest.Harness{
		Make: func(t *testing.T, limits queue.Limits) queue.Queue { return ensure(t, cfg, limits) },
		Open: func(ctx context.Context, name string) (queue.Queue, error) {
			return sqsqueue.Open(ctx, cfg, name, sqsqueue.Options{})
		},
		Remove:      func(t *testing.T, name string) { remove(t, sqs.NewFromConfig(cfg), name) },
		Unit:        2 * time.Second,
		Lag:         2 * time.Second,
		TooLarge:    2 << 20,
		CancelTakes: true,
	})
}
