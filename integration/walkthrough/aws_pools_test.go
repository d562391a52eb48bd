package walkthrough

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/backoff"
)

// TestStoryManyPools: with 25 pools IAM takes the policies, a job in one of them is done, and an idle pool costs as
// many calls as ARCHITECTURE.md says: 15 of SQS in a minute, 6 for the deployment, and one of EC2 and one of S3 for all
// pools together.
func TestStoryManyPools(t *testing.T) {
	const pools = 25
	var idle strings.Builder
	idle.WriteString(primesPool)
	for i := range pools - 1 {
		fmt.Fprintf(&idle, "  pool-number-%d: {policy: job, image: walk-primes-*, cloud: aws}\n", i+1)
	}
	s := newStory(t, plot{pools: idle.String(), defaults: map[string]string{
		"poll_interval": "5s", "policy_interval": "1m", "status_interval": "1m", "report_interval": "1m",
		"watchdog_interval": "10m",
	}})
	s.controllerStarts()
	s.feeds("1|6573")
	s.processed("1|6573")
	s.sees("no instances", s.empty("primes"))

	who := "arn:aws:iam::" + s.account + ":user/" + s.region + "-controller"
	s.amazon.Reset()
	const (
		span  = 20 * time.Second
		audit = 2 * time.Second // how often the configuration of all walk-throughs has instances listed
	)
	backoff.Wait(t.Context(), span)
	calls := make(map[string]int)
	for count, n := range s.amazon.Counts() {
		if service, _, _ := strings.Cut(count.Action, ":"); count.Principal == who {
			calls[service] += n
			calls[count.Action] += n
			t.Logf("%-28s %d", count.Action, n)
		}
	}
	// Calls of each kind may fall on both ends of the time, so one more of each is allowed for each pool.
	const minutes = float64(span) / float64(time.Minute)
	if got, most := calls["sqs"], pools*(int(15*minutes)+2)+int(6*minutes)+2; got > most || got < pools*2 {
		t.Errorf("got %d calls of SQS in %s, want at most %d", got, span, most)
	}
	lists, most := calls["ec2:DescribeInstances"], int(span/audit)+1
	if lists > most {
		t.Errorf("got %d lists of instances in %s, want at most %d: one for all pools in %s", lists, span, most, audit)
	}
	if others := calls["ec2"] - lists; others > 3 {
		t.Errorf("got %d other calls of EC2 in %s, want at most the 3 looks at statuses", others, span)
	}
	if calls["s3"] > 2 {
		t.Errorf("got %d calls of S3 in %s, want at most 2", calls["s3"], span)
	}
}
