package walkthrough

import (
	"testing"
	"time"

	"cloudmaster/integration/wire"
	"cloudmaster/internal/backoff"
)

// TestIdleBudget counts the calls of AWS that an idle deployment of two pools makes in three
// minutes, with the default times. The README's section "On AWS" says what these calls cost.
func TestIdleBudget(t *testing.T) {
	w := begin(t, plot{})
	w.configureAsShipped()
	w.controllerStarts()
	backoff.Wait(t.Context(), 5*time.Second) // until then the calls of the start are made, which are not counted
	w.wire.Reset()
	const minutes = 3
	backoff.Wait(t.Context(), minutes*time.Minute)
	sum := make(map[string]int)
	for call, n := range w.wire.Counts() {
		sum[call.Service] += n
		t.Logf("%-24s %d", call.Service+" "+call.Action, n)
	}
	describes := w.wire.Counts()[wire.Call{Service: "ec2", Action: "DescribeInstances"}]
	statuses := w.wire.Counts()[wire.Call{Service: "ec2", Action: "DescribeInstanceStatus"}]
	// Allow one call more than the rate: calls may fall on both ends of the time.
	if describes > minutes+1 || statuses > 3 || sum["ec2"] > describes+statuses {
		t.Errorf("got %d DescribeInstances, %d DescribeInstanceStatus and %d other calls of EC2 in %d minutes, want 1 "+
			"a minute, 3 in five minutes and no others", describes, statuses, sum["ec2"]-describes-statuses, minutes)
	}
	if most := 2*(15*minutes+2) + 6*minutes + 2; sum["sqs"] > most {
		t.Errorf("got %d calls of SQS in %d minutes, want at most %d: 15 a minute for each of 2 pools, and 6 for both",
			sum["sqs"], minutes, most)
	}
	if most := 2 * (minutes + 1); sum["s3"] > most {
		t.Errorf("got %d calls of S3 in %d minutes, want at most 1 a minute for each of 2 pools", sum["s3"], minutes)
	}
	if describes < minutes-1 || sum["sqs"] < minutes*20 {
		t.Errorf("got %d DescribeInstances and %d calls of SQS: did the controller look at all?", describes, sum["sqs"])
	}
}
