package assumptions

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"cloudmaster/integration/program"
	"cloudmaster/internal/awsconf"
)

// cloud is an account of its own on LocalStack, or the caller's account on AWS.
type cloud struct {
	*testing.T
	cfg aws.Config
}

func at(t *testing.T) cloud {
	t.Helper()
	t.Parallel()
	if os.Getenv("ASSUMPTIONS_ON_AWS") == "1" {
		cfg, err := config.LoadDefaultConfig(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return cloud{t, cfg}
	}
	endpoint := os.Getenv("LOCALSTACK_ENDPOINT")
	if endpoint == "" {
		t.Skip("set LOCALSTACK_ENDPOINT to a running LocalStack; make integration does")
	}
	account := fmt.Sprintf("%012d", rand.Int64N(1e12))
	return cloud{t, aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(endpoint),
		Credentials: credentials.NewStaticCredentialsProvider(account, "test", ""),
	}}
}

func (c cloud) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// refuses fails the test unless the error has one of the codes.
func (c cloud) refuses(err error, codes ...string) {
	c.Helper()
	for _, code := range codes {
		if awsconf.Code(err) == code {
			return
		}
	}
	c.Errorf("got %v, want one of %v", err, codes)
}

// eventually waits for something that may take a while to become true.
func (c cloud) eventually(what string, look func() (string, bool)) {
	c.Helper()
	if seen := program.Until(c.Context(), 2*time.Minute, look); seen.Err != nil {
		c.Fatalf("%s: got %q: %v", what, seen.Text, seen.Err)
	}
}

const tag = "cloudmaster:assumption"

// launch starts an instance, which is terminated when the test ends.
func (c cloud) launch(client *ec2.Client, name string, changes ...func(*ec2.RunInstancesInput)) (id string) {
	c.Helper()
	images, err := client.DescribeImages(c.Context(), &ec2.DescribeImagesInput{
		Owners:  []string{"amazon"},
		Filters: []ec2types.Filter{{Name: aws.String("architecture"), Values: []string{"x86_64"}}},
	})
	c.must(err)
	in := &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, InstanceType: ec2types.InstanceTypeT3Micro,
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		TagSpecifications: []ec2types.TagSpecification{{
			ResourceType: ec2types.ResourceTypeInstance,
			Tags:         []ec2types.Tag{{Key: aws.String(tag), Value: aws.String(name)}},
		}},
	}
	for _, change := range changes {
		change(in)
	}
	out, err := client.RunInstances(c.Context(), in)
	c.must(err)
	id = *out.Instances[0].InstanceId
	c.Cleanup(func() {
		ctx := context.WithoutCancel(c.Context())
		_, err := client.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
		c.must(err)
	})
	return id
}

func TestA22_ListsComeInPages(t *testing.T) {
	c := at(t)
	client := ec2.NewFromConfig(c.cfg)
	want := make(map[string]bool)
	for range 6 {
		want[c.launch(client, "a22")] = true
	}
	c.eventually("all of them, on two pages", func() (string, bool) {
		sheets, got := 0, make(map[string]bool)
		pages := ec2.NewDescribeInstancesPaginator(client, &ec2.DescribeInstancesInput{
			Filters:    []ec2types.Filter{{Name: aws.String("tag:" + tag), Values: []string{"a22"}}},
			MaxResults: aws.Int32(5),
		})
		for ; pages.HasMorePages(); sheets++ {
			page, err := pages.NextPage(t.Context())
			c.must(err)
			for _, r := range page.Reservations {
				for i := range r.Instances {
					if id := *r.Instances[i].InstanceId; want[id] {
						got[id] = true
					}
				}
			}
		}
		return fmt.Sprint(len(got), " instances on ", sheets, " pages"), len(got) == len(want) && sheets >= 2
	})
}

// states returns the states of the instances that have the tag, as a list with filters shows them.
func (c cloud) states(client *ec2.Client, name string) map[string]ec2types.InstanceStateName {
	c.Helper()
	states := make(map[string]ec2types.InstanceStateName)
	pages := ec2.NewDescribeInstancesPaginator(client, &ec2.DescribeInstancesInput{
		Filters: []ec2types.Filter{{Name: aws.String("tag:" + tag), Values: []string{name}}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.Context())
		c.must(err)
		for _, r := range page.Reservations {
			for i := range r.Instances {
				states[*r.Instances[i].InstanceId] = r.Instances[i].State.Name
			}
		}
	}
	return states
}

func TestA05_TagsAreThereFromTheFirstMoment(t *testing.T) {
	c := at(t)
	client := ec2.NewFromConfig(c.cfg)
	id := c.launch(client, "a05")
	c.eventually("an instance found by its tag", func() (string, bool) {
		states := c.states(client, "a05")
		return fmt.Sprint(states), states[id] != ""
	})
}

func TestA06_OneUnknownIDKeepsAllFromEnding(t *testing.T) {
	c := at(t)
	client := ec2.NewFromConfig(c.cfg)
	id := c.launch(client, "a06")
	ids := []string{id, "i-0123456789abcdef0"}
	_, err := client.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids})
	c.refuses(err, "InvalidInstanceID.NotFound")
	got := c.states(client, "a06")[id]
	if got != ec2types.InstanceStateNameRunning && got != ec2types.InstanceStateNamePending {
		t.Errorf("got it %s, want it running", got)
	}
}

func TestA07_TerminatedInstancesStayListedAndCanBeEndedAgain(t *testing.T) {
	c := at(t)
	client := ec2.NewFromConfig(c.cfg)
	id := c.launch(client, "a07")
	for range 2 {
		_, err := client.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
		c.must(err)
	}
	c.eventually("terminated, and listed", func() (string, bool) {
		got := c.states(client, "a07")[id]
		return string(got), got == ec2types.InstanceStateNameTerminated
	})
}

func TestA08_UserDataComesBackAsItWasGiven(t *testing.T) {
	c := at(t)
	client := ec2.NewFromConfig(c.cfg)
	doc := base64.StdEncoding.EncodeToString([]byte("pool: primes\nnote: \u00e4\u2028\n"))
	id := c.launch(client, "a08", func(in *ec2.RunInstancesInput) { in.UserData = &doc })
	out, err := client.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{
		InstanceId: &id, Attribute: ec2types.InstanceAttributeNameUserData,
	})
	c.must(err)
	if got := aws.ToString(out.UserData.Value); got != doc {
		t.Errorf("got %q, want %q", got, doc)
	}
}

// bucket makes a bucket, which is deleted when the test ends.
func (c cloud) bucket(client *s3.Client) string {
	c.Helper()
	name := fmt.Sprintf("cloudmaster-assumption-%d", rand.Uint64())
	_, err := client.CreateBucket(c.Context(), &s3.CreateBucketInput{
		Bucket: &name,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{
			LocationConstraint: s3types.BucketLocationConstraint(c.cfg.Region),
		},
	})
	c.must(err)
	c.Cleanup(func() {
		ctx := context.WithoutCancel(c.Context())
		_, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &name, Key: aws.String("k")})
		c.must(err)
		_, err = client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name})
		c.must(err)
	})
	return name
}

func newS3(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle, o.RetryMaxAttempts = true, 1 })
}

// TestA09_AnObjectIsCreatedOnce: of several writers that create an object at the same time, one succeeds.
func TestA09_AnObjectIsCreatedOnce(t *testing.T) {
	c := at(t)
	client := newS3(c.cfg)
	bucket := c.bucket(client)
	c.oneWins(func(n int) error {
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &bucket, Key: aws.String("k"), IfNoneMatch: aws.String("*"), Body: strings.NewReader(fmt.Sprint(n)),
		})
		return err
	})
}

// TestA10_AVersionIsReplacedOnce: of several writers that replace a version at the same time, one succeeds.
func TestA10_AVersionIsReplacedOnce(t *testing.T) {
	c := at(t)
	client := newS3(c.cfg)
	bucket := c.bucket(client)
	first, err := client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &bucket, Key: aws.String("k"), Body: strings.NewReader("first"),
	})
	c.must(err)
	c.oneWins(func(n int) error {
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &bucket, Key: aws.String("k"), IfMatch: first.ETag, Body: strings.NewReader(fmt.Sprint(n)),
		})
		return err
	})
}

// oneWins runs several writers at the same time and wants exactly one of them to succeed.
func (c cloud) oneWins(write func(n int) error) {
	c.Helper()
	var won atomic.Int32
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			if err := write(n); err == nil {
				won.Add(1)
			} else {
				c.refuses(err, "PreconditionFailed", "ConditionalRequestConflict")
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		c.Errorf("got %d writers through, want 1", won.Load())
	}
}

func TestA11_AnUnchangedObjectIsNotSent(t *testing.T) {
	c := at(t)
	client := newS3(c.cfg)
	bucket := c.bucket(client)
	put, err := client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &bucket, Key: aws.String("k"), Body: strings.NewReader("x"),
	})
	c.must(err)
	_, err = client.GetObject(t.Context(), &s3.GetObjectInput{
		Bucket: &bucket, Key: aws.String("k"), IfNoneMatch: put.ETag,
	})
	c.refuses(err, "NotModified")
}

// queue makes a queue, which is deleted when the test ends.
func (c cloud) queue(client *sqs.Client, attributes map[string]string) *string {
	c.Helper()
	out, err := client.CreateQueue(c.Context(), &sqs.CreateQueueInput{
		QueueName: aws.String(fmt.Sprintf("cloudmaster-assumption-%d", rand.Uint64())), Attributes: attributes,
	})
	c.must(err)
	c.Cleanup(func() {
		_, err := client.DeleteQueue(context.WithoutCancel(c.Context()), &sqs.DeleteQueueInput{QueueUrl: out.QueueUrl})
		c.must(err)
	})
	return out.QueueUrl
}

func (c cloud) send(client *sqs.Client, url *string) {
	c.Helper()
	_, err := client.SendMessage(c.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("x")})
	c.must(err)
}

// receive waits for a message, and returns nil if none comes.
func (c cloud) receive(client *sqs.Client, url *string, wait int32) *sqstypes.Message {
	c.Helper()
	out, err := client.ReceiveMessage(c.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, WaitTimeSeconds: wait})
	c.must(err)
	if len(out.Messages) == 0 {
		return nil
	}
	return &out.Messages[0]
}

func TestA12_AMessageThatIsExtendedIsNotDeliveredAgain(t *testing.T) {
	c := at(t)
	client := sqs.NewFromConfig(c.cfg)
	url := c.queue(client, map[string]string{"VisibilityTimeout": "2"})
	c.send(client, url)
	m := c.receive(client, url, 5)
	if m == nil {
		t.Fatal("got no message")
	}
	_, err := client.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
		QueueUrl: url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 6,
	})
	c.must(err)
	if again := c.receive(client, url, 4); again != nil {
		t.Error("got it again within the extended time")
	}
	if again := c.receive(client, url, 10); again == nil {
		t.Error("did not get it again after the extended time")
	}
}

func TestA13_AMessageGoesToTheDeadLettersAfterItsDeliveries(t *testing.T) {
	c := at(t)
	client := sqs.NewFromConfig(c.cfg)
	dead := c.queue(client, nil)
	arn, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: dead, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameQueueArn},
	})
	c.must(err)
	url := c.queue(client, map[string]string{
		"VisibilityTimeout": "1",
		"RedrivePolicy":     fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":2}`, arn.Attributes["QueueArn"]),
	})
	c.send(client, url)
	for n := range 2 {
		if c.receive(client, url, 5) == nil {
			t.Fatalf("got it %d times, want 2", n)
		}
	}
	c.eventually("a dead letter", func() (string, bool) {
		again := c.receive(client, url, 1) // SQS moves the message only when somebody tries to receive it
		return fmt.Sprint(again), again == nil && c.receive(client, dead, 1) != nil
	})
}

func TestA14_AnEmptyLongPollWaits(t *testing.T) {
	c := at(t)
	client := sqs.NewFromConfig(c.cfg)
	url := c.queue(client, nil)
	begin := time.Now()
	if m := c.receive(client, url, 3); m != nil {
		t.Fatal("got a message from an empty queue")
	}
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("the receive returned after %s, want about 3s: otherwise callers would poll without a pause", took)
	}
}
