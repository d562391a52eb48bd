package sqsqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/queue"
)

// Retention is for how long SQS keeps the messages of queues that Ensure makes without a limit, and all dead letters.
const Retention = 14 * 24 * time.Hour

// SQS's own limits. Source: Amazon SQS Developer Guide, "Amazon SQS message quotas".
const (
	maxVisibility   = 12 * time.Hour
	maxRetention    = Retention
	minRetention    = time.Minute
	maxDeliveries   = 1000
	maxMessageBytes = 1 << 20
)

// Options are the settings of Open and Ensure; the zero value works.
type Options struct {
	Deployment string // written as a tag on queues that Ensure creates
}

// Open opens an existing queue. It returns queue.ErrNotFound if there is none.
func Open(ctx context.Context, cfg aws.Config, name string, _ Options) (*Queue, error) {
	client := sqs.NewFromConfig(cfg)
	url, err := find(ctx, client, name)
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	attrs, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl:       aws.String(url),
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameVisibilityTimeout},
	})
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, classify(err))
	}
	seconds, err := strconv.Atoi(attrs.Attributes[string(types.QueueAttributeNameVisibilityTimeout)])
	if err != nil {
		return nil, fmt.Errorf("open queue %s: visibility timeout: %w", name, err)
	}
	return &Queue{client: client, name: name, url: url, visibility: time.Duration(seconds) * time.Second}, nil
}

// nameForm matches the names that SQS accepts.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

func find(ctx context.Context, client *sqs.Client, name string) (string, error) {
	if !nameForm.MatchString(name) {
		return "", fmt.Errorf("%q is not a name for SQS: 1 to 80 of A-Z a-z 0-9 _ and -", name)
	}
	out, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(name)})
	if err != nil {
		return "", classify(err)
	}
	return aws.ToString(out.QueueUrl), nil
}

// Ensure opens a queue. It creates the queue and its dead letters where they are missing. On
// existing queues it writes only attributes that differ, so that it also works without the
// permission to create or change queues if they are already as they should be.
func Ensure(ctx context.Context, cfg aws.Config, name string, limits queue.Limits, opts Options) (*Queue, error) {
	want, err := wanted(name, limits)
	if err != nil {
		return nil, fmt.Errorf("create queue %s: %w", name, err)
	}
	client := sqs.NewFromConfig(cfg)
	deadURL, err := ensure(ctx, client, queue.DeadLetters(name), common(maxRetention), opts)
	if err != nil {
		return nil, err
	}
	arn, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(deadURL), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameQueueArn},
	})
	if err != nil {
		return nil, fmt.Errorf("create queue %s: read the dead letters' ARN: %w", name, classify(err))
	}
	if want[attrRedrive], err = redrive(arn.Attributes[string(types.QueueAttributeNameQueueArn)], limits); err != nil {
		return nil, err
	}
	if _, err := ensure(ctx, client, name, want, opts); err != nil {
		return nil, err
	}
	return Open(ctx, cfg, name, opts)
}

// EnsureDeadLetters is the part of Ensure that concerns the dead letters of the named queue.
func EnsureDeadLetters(ctx context.Context, cfg aws.Config, name string, opts Options) error {
	_, err := ensure(ctx, sqs.NewFromConfig(cfg), queue.DeadLetters(name), common(maxRetention), opts)
	return err
}

// attrRedrive is the attribute that names a queue's dead letters and says after how many deliveries
// a message goes there.
const attrRedrive = string(types.QueueAttributeNameRedrivePolicy)

// wanted returns the attributes that a queue should have, except the one that names its dead letters.
func wanted(name string, limits queue.Limits) (map[string]string, error) {
	want, err := attributes(limits)
	if !nameForm.MatchString(queue.DeadLetters(name)) || name == "" {
		err = errors.Join(err, fmt.Errorf(
			"%q is not a name for SQS: with the dead letters' %q, 1 to 80 of A-Z a-z 0-9 _ and -",
			name, queue.DeadLetters(name)))
	}
	return want, err
}

func redrive(deadARN string, limits queue.Limits) (string, error) {
	doc, err := json.Marshal(map[string]any{"deadLetterTargetArn": deadARN, "maxReceiveCount": deliveries(limits)})
	return string(doc), err
}

func deliveries(l queue.Limits) int {
	if l.Deliveries == 0 {
		return queue.DefaultDeliveries
	}
	return l.Deliveries
}

// CheckLimits returns an error that names all limits that SQS does not support.
func CheckLimits(l queue.Limits) error {
	_, err := attributes(l)
	return err
}

// attributes returns the attributes of a queue with these limits, or an error that names all limits
// that SQS does not support.
func attributes(l queue.Limits) (map[string]string, error) {
	visibility, retention := l.Visibility, l.Retention
	if visibility == 0 {
		visibility = queue.DefaultVisibility
	}
	if retention == 0 {
		retention = maxRetention
	}
	var errs []error
	if visibility < 0 || visibility > maxVisibility {
		errs = append(errs, fmt.Errorf("visibility timeout is %s, SQS has 0 to %s", visibility, maxVisibility))
	}
	if retention < minRetention || retention > maxRetention {
		errs = append(errs, fmt.Errorf("retention is %s, SQS has %s to %s", retention, minRetention, maxRetention))
	}
	if n := deliveries(l); n < 1 || n > maxDeliveries {
		errs = append(errs, fmt.Errorf("deliveries are %d, SQS has 1 to %d", n, maxDeliveries))
	}
	attrs := common(retention)
	attrs[string(types.QueueAttributeNameVisibilityTimeout)] = seconds(visibility)
	return attrs, errors.Join(errs...)
}

func common(retention time.Duration) map[string]string {
	return map[string]string{
		string(types.QueueAttributeNameMessageRetentionPeriod): seconds(retention),
		string(types.QueueAttributeNameMaximumMessageSize):     strconv.Itoa(maxMessageBytes),
		string(types.QueueAttributeNameSqsManagedSseEnabled):   "true",
	}
}

// seconds rounds up, because SQS has whole seconds only.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

// ensure creates a queue, or changes the attributes of an existing one to those wanted, and returns its URL.
func ensure(
	ctx context.Context, client *sqs.Client, name string, want map[string]string, opts Options,
) (string, error) {
	url, err := find(ctx, client, name)
	if errors.Is(err, queue.ErrNotFound) {
		return create(ctx, client, name, want, opts)
	}
	if err != nil {
		return "", fmt.Errorf("open queue %s: %w", name, err)
	}
	have, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(url), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		return "", fmt.Errorf("read attributes of queue %s: %w", name, classify(err))
	}
	differ := differing(have.Attributes, want)
	if len(differ) == 0 {
		return url, nil
	}
	_, err = client.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: aws.String(url), Attributes: differ})
	if err != nil {
		return "", fmt.Errorf("set attributes of queue %s: %w", name, classify(err))
	}
	return url, nil
}

// differing returns the wanted attributes that a queue does not have. If its owner encrypts it with
// a key of their own, the attributes of encryption are left alone.
func differing(have, want map[string]string) map[string]string {
	differ := maps.Clone(want)
	if have[string(types.QueueAttributeNameKmsMasterKeyId)] != "" {
		delete(differ, string(types.QueueAttributeNameSqsManagedSseEnabled))
	}
	maps.DeleteFunc(differ, func(key, value string) bool { return same(key, have[key], value) })
	return differ
}

// same compares two values of an attribute. A redrive policy is JSON, in which SQS may write
// numbers as text.
func same(key, a, b string) bool {
	if key != attrRedrive {
		return a == b
	}
	return a != "" && policy(a) == policy(b)
}

func policy(doc string) string {
	var p map[string]any
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		return doc
	}
	return fmt.Sprint(p["deadLetterTargetArn"], " ", p["maxReceiveCount"])
}

func create(
	ctx context.Context, client *sqs.Client, name string, attrs map[string]string, opts Options,
) (string, error) {
	out, err := client.CreateQueue(ctx, &sqs.CreateQueueInput{
		QueueName: aws.String(name), Attributes: attrs, Tags: awsconf.SetupTags(opts.Deployment),
	})
	if err != nil {
		return "", fmt.Errorf("create queue %s: %w", name, classify(err))
	}
	return aws.ToString(out.QueueUrl), nil
}
