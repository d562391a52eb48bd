package ec2cloud_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

// describeStatus shows the instances that pass the only filter.
func (f *fake) describeStatus(form url.Values) (code, answer string) {
	if form.Get("Filter.2.Name") != "" {
		return "InvalidParameterValue", "the fake has one filter"
	}
	return "", "<instanceStatusSet>" + f.statuses[form.Get("Filter.1.Name")] + "</instanceStatusSet>"
}

// status is an instance in an answer, with what is scheduled for it.
func statusOf(id pool.InstanceID, events ...string) string {
	return "<item><instanceId>" + string(id) + "</instanceId><eventsSet>" + strings.Join(events, "") +
		"</eventsSet></item>"
}

func scheduled(code, description string) string {
	return "<item><code>" + code + "</code><description>" + description +
		"</description><notBefore>2026-12-01T08:00:00Z</notBefore></item>"
}

// checking is a cloud with two instances of the deployment d, whose clock the test sets.
func checking(t *testing.T) (f *fake, check func(at time.Duration) []string, ids []pool.InstanceID) {
	t.Helper()
	f, c := world(t, ec2cloud.Options{})
	f.statuses = make(map[string]string)
	started, err := c.Launch(t.Context(), cloud.Spec{
		Token: "t", Count: 2, Image: image, Tags: map[string]string{cloud.TagPool: "p"},
		UserData: func(pool.InstanceID) ([]byte, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	return f, func(at time.Duration) (out []string) {
		c.SetNow(func() time.Time { return begin.Add(at) })
		events, err := c.Check(t.Context())
		for _, e := range events {
			out = append(out, fmt.Sprint(e.Says, " ", e.Instances, " ", e.Reason))
		}
		if err != nil {
			out = append(out, "error")
		}
		return out
	}, []pool.InstanceID{started[0].ID, started[1].ID}
}

func wantChecked(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", when, got, want)
	}
}

// TestScheduledEvents: what is retired or stopped ends, and is replaced at once; what is rebooted goes on. What is over
// or concerns instances of others is left out.
func TestScheduledEvents(t *testing.T) {
	t.Parallel()
	f, check, ids := checking(t)
	f.statuses["event.code"] = statusOf(ids[0], scheduled("instance-retirement", "degraded hardware"),
		scheduled("instance-stop", "[Completed] it was stopped"), scheduled("instance-stop", "[Canceled] it was not")) +
		statusOf(ids[1], scheduled("system-reboot", "soon"), scheduled("instance-dance", "what")) +
		statusOf(unknown, scheduled("instance-retirement", "of others"))
	wantChecked(t, "at first", check(0),
		fmt.Sprint(cloud.Ends, " [", ids[0], "] scheduled event: instance-retirement not before 2026-12-01T08:00:00Z"),
		fmt.Sprint(cloud.Noted, " [", ids[1], "] scheduled event: system-reboot not before 2026-12-01T08:00:00Z"))
	if n := len(f.requests("DescribeInstanceStatus")); n != 3 {
		t.Errorf("got %d calls, want 3", n)
	}
}

// TestFailedStatusChecks: an instance counts as about to end if its checks fail at two looks that are minutes apart.
func TestFailedStatusChecks(t *testing.T) {
	t.Parallel()
	f, check, ids := checking(t)
	const system, instance = "system-status.status", "instance-status.status"
	f.statuses[system], f.statuses[instance] = statusOf(ids[0]), statusOf(ids[0])+statusOf(ids[1])+statusOf(unknown)
	wantChecked(t, "at first", check(0))
	wantChecked(t, "seconds later", check(20*time.Second))
	f.statuses[instance] = statusOf(ids[0])
	wantChecked(t, "five minutes later", check(5*time.Minute),
		fmt.Sprint(cloud.Ends, " [", ids[0], "] status check failed: system and instance"))
	f.statuses[instance] = statusOf(ids[1])
	wantChecked(t, "the other again", check(10*time.Minute),
		fmt.Sprint(cloud.Ends, " [", ids[0], "] status check failed: system"))
	f.statuses[system] = ""
	wantChecked(t, "the other for long", check(15*time.Minute),
		fmt.Sprint(cloud.Ends, " [", ids[1], "] status check failed: instance"))
}

// TestAFailedLookForgetsNothing: it says nothing about the instances, neither good nor bad.
func TestAFailedLookForgetsNothing(t *testing.T) {
	t.Parallel()
	f, check, ids := checking(t)
	f.statuses["system-status.status"] = statusOf(ids[0])
	f.statuses["event.code"] = statusOf(ids[1], scheduled("instance-stop", "soon"))
	stop := fmt.Sprint(cloud.Ends, " [", ids[1], "] scheduled event: instance-stop not before 2026-12-01T08:00:00Z")
	wantChecked(t, "at first", check(0), stop)
	f.fail = func(action string, form url.Values) (code, message string) {
		if action == "DescribeInstanceStatus" && form.Get("Filter.1.Name") == "instance-status.status" {
			return "UnauthorizedOperation", "no"
		}
		return "", ""
	}
	wantChecked(t, "while it fails", check(5*time.Minute), stop, "error")
	f.fail = func(string, url.Values) (code, message string) { return "", "" }
	wantChecked(t, "then", check(10*time.Minute), stop,
		fmt.Sprint(cloud.Ends, " [", ids[0], "] status check failed: system"))
}
