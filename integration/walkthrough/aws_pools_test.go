package walkthrough

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/backoff"
)

// TestStoryManyPools: with 25 pools IAM takes the policies, a job in one of them is done, and an idle pool costs as
// many calls as ARCHITECTURE.md says: 15 of SQS in a minute, and one of EC2 and one of S3 for all pools together.
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
			t.Logf("%-28s %d", count.Action, n)
		}
	}
	perMinute := func(n int) float64 { return float64(n) * float64(time.Minute) / float64(span) }
	// Each pool may have one call of each kind more, because calls may fall on both ends of the time.
	if got, most := calls["sqs"], pools*(15*int(span/time.Second)/60+2); got > most || got < pools*2 {
		t.Errorf("got %d calls of SQS in %s, which is %.1f a minute for each pool; want at most %d", got, span,
			perMinute(got)/pools, most)
	}
	if most := int(span/audit) + 1; calls["ec2"] > most {
		t.Errorf("got %d calls of EC2 in %s, want at most %d: one list for all pools in %s", calls["ec2"], span, most,
			audit)
	}
	if calls["s3"] > 2 {
		t.Errorf("got %d calls of S3 in %s, want at most 2", calls["s3"], span)
	}
}
