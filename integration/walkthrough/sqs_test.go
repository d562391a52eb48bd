package walkthrough

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/pool"
)

func join(ids []string) string { return strings.Join(ids, " ") }

func ids(set map[string]float64) []string { return slices.Sorted(maps.Keys(set)) }

// sqs returns a client of SQS that does not use the wire.
func (w *world) sqs() *sqs.Client {
	return sqs.New(sqs.Options{
		Region: w.region, BaseEndpoint: w.ec2.Options().BaseEndpoint,
		Credentials: credentials.NewStaticCredentialsProvider(w.account, "test", ""),
	})
}

func (w *world) queueURL(queue string) *string {
	w.t.Helper()
	out, err := w.sqs().GetQueueUrl(w.t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(queue)})
	w.must(err)
	return out.QueueUrl
}

// sends sends message bodies to a queue unchanged.
func (w *world) sends(queue string, bodies ...string) {
	w.t.Helper()
	url := w.queueURL(queue)
	for _, body := range bodies {
		_, err := w.sqs().SendMessage(w.t.Context(),
			&sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String(body)})
		w.must(err)
	}
}

// counts returns how many messages of a queue are visible.
func (w *world) counts(queue string) string {
	w.t.Helper()
	const visible = types.QueueAttributeNameApproximateNumberOfMessages
	out, err := w.sqs().GetQueueAttributes(w.t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: w.queueURL(queue), AttributeNames: []types.QueueAttributeName{visible},
	})
	w.must(err)
	return out.Attributes[string(visible)]
}

func (w *world) deletesQueue(queue string) {
	w.t.Helper()
	_, err := w.sqs().DeleteQueue(w.t.Context(), &sqs.DeleteQueueInput{QueueUrl: w.queueURL(queue)})
	w.must(err)
}

// userData returns the document that the controller would give an instance of the pool.
func (w *world) userData(name string) string {
	w.t.Helper()
	doc, err := agent.UserData{
		Deployment: deployment, Pool: pool.Name(name), Backend: "aws://" + w.region,
		Queues: agent.Queues{Work: name + "-work-" + deployment, Status: name + "-status-" + deployment},
	}.Encode()
	w.must(err)
	return base64.StdEncoding.EncodeToString(doc)
}

// everListed returns the ids of all instances that there ever were, also of terminated ones.
func (w *world) everListed() []string {
	w.t.Helper()
	var all []string
	pages := ec2.NewDescribeInstancesPaginator(w.ec2, &ec2.DescribeInstancesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.WithoutCancel(w.t.Context()))
		w.must(err)
		for _, r := range page.Reservations {
			for _, in := range r.Instances {
				all = append(all, *in.InstanceId)
			}
		}
	}
	return all
}
