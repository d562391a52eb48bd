// Package sqsages tells how old the messages of SQS's queues are. SQS itself has no call for it: CloudWatch has the
// metric ApproximateAgeOfOldestMessage of each queue. It is a package of its own, because workers need no client of
// CloudWatch, which would make their binaries larger.
//
// # What the metric says
//
// It is there while a queue has messages, some minutes old, and approximate. It leaves out messages that were received
// three times or more and not deleted, until they are done. Of dead letters that SQS itself has moved it says for how
// long they have been dead letters, although SQS forgets them by when they were sent first. So there may always be
// older messages than it says. Source: SQS Developer Guide, "Available CloudWatch metrics for Amazon SQS" and
// "Setting-up dead-letter queue retention".
package sqsages

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/sqsqueue"
)

const (
	// mostQueries is the most that one call takes. Source: CloudWatch API Reference, GetMetricData.
	mostQueries = 500
	// period is how often SQS tells CloudWatch, and window how far back to look for the newest value.
	period = time.Minute
	window = 15 * time.Minute
)

var _ queue.Ager = (*Reader)(nil)

// Reader asks CloudWatch. Make it with New.
type Reader struct{ client *cloudwatch.Client }

// New returns a reader of the region and account of an SDK configuration.
func New(cfg aws.Config) *Reader { return &Reader{client: cloudwatch.NewFromConfig(cfg)} }

// Ages implements queue.Ager with one call for each 500 queues. Each queue in a call is paid for.
func (r *Reader) Ages(ctx context.Context, names ...string) (map[string]queue.Age, error) {
	ages := make(map[string]queue.Age)
	for some := range slices.Chunk(names, mostQueries) {
		if err := r.some(ctx, some, ages); err != nil {
			return nil, fmt.Errorf("ask CloudWatch how old messages are: %w", classify(err))
		}
	}
	return ages, nil
}

// some asks for no more queues than one call takes, and enters those of which CloudWatch knows.
func (r *Reader) some(ctx context.Context, names []string, ages map[string]queue.Age) error {
	end := time.Now()
	in := &cloudwatch.GetMetricDataInput{
		StartTime: aws.Time(end.Add(-window).Truncate(period)), EndTime: aws.Time(end),
		ScanBy: types.ScanByTimestampDescending,
	}
	for i, name := range names {
		in.MetricDataQueries = append(in.MetricDataQueries, query(i, name))
	}
	pages := cloudwatch.NewGetMetricDataPaginator(r.client, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for i := range page.MetricDataResults {
			enter(&page.MetricDataResults[i], names, ages)
		}
	}
	return nil
}

// query asks for one queue. Its id is the queue's number, because ids may not have dashes.
func query(number int, name string) types.MetricDataQuery {
	return types.MetricDataQuery{
		Id: aws.String("q" + strconv.Itoa(number)),
		MetricStat: &types.MetricStat{
			Metric: &types.Metric{
				Namespace: aws.String("AWS/SQS"), MetricName: aws.String("ApproximateAgeOfOldestMessage"),
				Dimensions: []types.Dimension{{Name: aws.String("QueueName"), Value: aws.String(name)}},
			},
			Period: aws.Int32(int32(period / time.Second)), Stat: aws.String("Maximum"),
		},
	}
}

// enter takes the newest value, which comes first, also over several pages. A queue without one stays unknown: it may
// be empty, or new.
func enter(r *types.MetricDataResult, names []string, ages map[string]queue.Age) {
	number, err := strconv.Atoi(strings.TrimPrefix(aws.ToString(r.Id), "q"))
	if err != nil || number < 0 || number >= len(names) || len(r.Values) == 0 || r.Values[0] < 0 {
		return
	}
	if _, have := ages[names[number]]; have {
		return
	}
	ages[names[number]] = queue.Age{
		Known: true, Oldest: time.Duration(r.Values[0] * float64(time.Second)), AtLeast: true,
		Retention: sqsqueue.Retention,
	}
}

// classify wraps an error in the port's error of the same meaning, if there is one.
func classify(err error) error {
	switch {
	case awsconf.Is(err, awsconf.Denied):
		return fmt.Errorf("%w: %w", queue.ErrDenied, err)
	case awsconf.Is(err, awsconf.Throttled):
		return fmt.Errorf("%w: %w", queue.ErrThrottled, err)
	}
	return err
}
