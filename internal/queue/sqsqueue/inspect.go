package sqsqueue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"cloudmaster/internal/queue"
)

// State is what SQS has under a queue's name. Those who set up and take down deployments ask for it.
type State struct {
	Name    string
	Exists  bool
	Tags    map[string]string
	Differs []string // what Ensure would change, sorted: "VisibilityTimeout is 30, not 120"
}

// Inspect looks at a queue and its dead letters, and changes nothing. It returns an error if the
// state cannot be read, or if no such queue is possible.
func Inspect(ctx context.Context, cfg aws.Config, name string, limits queue.Limits) (dead, main State, err error) {
	want, err := wanted(name, limits)
	if err != nil {
		return dead, main, fmt.Errorf("queue %s: %w", name, err)
	}
	client := sqs.NewFromConfig(cfg)
	dead, have, err := inspect(ctx, client, queue.DeadLetters(name))
	if err != nil {
		return dead, main, err
	}
	arn := have[string(types.QueueAttributeNameQueueArn)]
	if dead.Exists {
		dead.Differs = differences(have, common(maxRetention))
	}
	main, have, err = inspect(ctx, client, name)
	if err != nil || !main.Exists {
		return dead, main, err
	}
	if !dead.Exists { // once created, they have the ARN that follows from their name
		arn = queue.DeadLetters(have[string(types.QueueAttributeNameQueueArn)])
	}
	if want[attrRedrive], err = redrive(arn, limits); err != nil {
		return dead, main, err
	}
	main.Differs = differences(have, want)
	return dead, main, nil
}

// Differs returns what Ensure would change on a queue, its dead letters excepted. It returns
// queue.ErrNotFound if the queue does not exist.
func Differs(ctx context.Context, cfg aws.Config, name string, limits queue.Limits) ([]string, error) {
	want, err := attributes(limits)
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	client := sqs.NewFromConfig(cfg)
	url, err := find(ctx, client, name)
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	have, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(url), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		return nil, fmt.Errorf("look at queue %s: %w", name, classify(err))
	}
	return differences(have.Attributes, want), nil
}

// inspect reads all attributes of one queue.
func inspect(ctx context.Context, client *sqs.Client, name string) (State, map[string]string, error) {
	s := State{Name: name}
	url, err := find(ctx, client, name)
	if errors.Is(err, queue.ErrNotFound) {
		return s, nil, nil
	}
	if err != nil {
		return s, nil, fmt.Errorf("look at queue %s: %w", name, err)
	}
	attrs, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(url), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		return s, nil, fmt.Errorf("look at queue %s: %w", name, classify(err))
	}
	tags, err := client.ListQueueTags(ctx, &sqs.ListQueueTagsInput{QueueUrl: aws.String(url)})
	if err != nil {
		return s, nil, fmt.Errorf("look at queue %s: %w", name, classify(err))
	}
	s.Exists, s.Tags = true, tags.Tags
	return s, attrs.Attributes, nil
}

// differences describes each attribute that differs.
func differences(have, want map[string]string) []string {
	var out []string
	differ := differing(have, want)
	for _, key := range slices.Sorted(maps.Keys(differ)) {
		was, is := have[key], differ[key]
		if key == attrRedrive {
			was, is = policy(was), policy(is)
		}
		out = append(out, fmt.Sprintf("%s is %s, not %s", key, orNone(was), is))
	}
	return out
}

func orNone(value string) string {
	if strings.TrimSpace(value) == "" {
		return "not set"
	}
	return value
}

// Rights returns the document that says who else may use the named queue, empty if there is none, and what SQS has
// under that name.
func Rights(ctx context.Context, cfg aws.Config, name string) (document string, _ State, err error) {
	state, have, err := inspect(ctx, sqs.NewFromConfig(cfg), name)
	return have[string(types.QueueAttributeNamePolicy)], state, err
}

// SetRights replaces that document.
func SetRights(ctx context.Context, cfg aws.Config, name, document string) error {
	client := sqs.NewFromConfig(cfg)
	url, err := find(ctx, client, name)
	if err == nil {
		_, err = client.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{
			QueueUrl: aws.String(url), Attributes: map[string]string{string(types.QueueAttributeNamePolicy): document},
		})
		err = classify(err)
	}
	if err != nil {
		return fmt.Errorf("set who may use queue %s: %w", name, err)
	}
	return nil
}

// Remove deletes the named queue with all its messages. It is not an error if the queue does not exist.
func Remove(ctx context.Context, cfg aws.Config, name string) error {
	client := sqs.NewFromConfig(cfg)
	url, err := find(ctx, client, name)
	if err == nil {
		_, err = client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: aws.String(url)})
		err = classify(err)
	}
	if err != nil && !errors.Is(err, queue.ErrNotFound) {
		return fmt.Errorf("remove queue %s: %w", name, err)
	}
	return nil
}
