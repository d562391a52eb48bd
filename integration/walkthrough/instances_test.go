package walkthrough

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/integration/wire"
	"cloudmaster/internal/cloud"
)

// TestTerminatedBehindOurBack: a person terminates the instance of a busy worker.
func TestTerminatedBehindOurBack(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.controllerStarts()
	w.feeds("1|" + endless)
	victim := w.worksOn(0, "1")
	w.must(w.metal.Hang(victim)) // otherwise the job might be done too early
	w.listsAgain()               // the instance must have been listed once, or its absence means nothing
	w.terminates(victim)
	mark := w.controller.Mark()
	w.reports(0, "primes Instance "+victim+" is gone")
	if other := w.worksOn(mark, "1"); other == victim {
		t.Errorf("the job was given to %s again, which is gone", victim)
	}
}

// TestStartedBehindOurBack: an instance with our tags is adopted; one without them is left alone.
func TestStartedBehindOurBack(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	stranger := w.launches(nil)
	w.controllerStarts()
	ours := w.launches(map[string]string{
		cloud.TagDeployment: deployment, cloud.TagPool: "primes", cloud.TagState: "startup",
		cloud.TagStateSince: time.Now().UTC().Format(time.RFC3339),
	})
	w.sees("the instance counted", func() (string, bool) {
		n := w.instances("primes", "startup") + w.instances("primes", "active")
		return fmt.Sprint(n), n == 1
	})
	w.reports(0, "primes Terminating instance "+ours) // it is idle and not needed
	w.sees("only the stranger left", func() (string, bool) {
		var ids []string
		for _, in := range w.listed() {
			ids = append(ids, *in.InstanceId)
		}
		return join(ids), len(ids) == 1 && ids[0] == stranger
	})
	w.reportsNot(0, stranger)
}

// TestHungInstance: an instance's process hangs in the middle of a job.
func TestHungInstance(t *testing.T) {
	w := begin(t, plot{pools: primesPool, defaults: map[string]string{"watchdog_interval": "6s"}})
	w.controllerStarts()
	w.feeds("1|" + endless)
	victim := w.worksOn(0, "1")
	w.must(w.metal.Hang(victim))
	w.reports(0, "primes Terminating instance "+victim)
	w.processed("1|" + endless)
	w.reportsNot(0, "primes "+victim+" Processed: 1 ")
}

// TestCrashedProcess: EC2 shows the instance as running, but its process has crashed.
func TestCrashedProcess(t *testing.T) {
	w := begin(t, plot{pools: primesPool, defaults: map[string]string{"watchdog_interval": "6s"}})
	w.controllerStarts()
	w.feeds("1|" + endless)
	victim := w.worksOn(0, "1")
	w.must(w.metal.Crash(victim))
	w.reports(0, "primes Terminating instance "+victim)
	w.processed("1|" + endless)
}

// TestSpotReclaim: a worker whose instance is taken back hands its job back and says so, and
// another worker does the job. There are enough jobs for it to be busy whenever it learns of the reclaim.
func TestSpotReclaim(t *testing.T) {
	one := strings.NewReplacer("maximum_number_of_instances: 3", "maximum_number_of_instances: 1",
		"stop_timeout: 3s", "stop_timeout: 100ms")
	w := begin(t, plot{pools: one.Replace(primesPool), defaults: map[string]string{"market": "spot"}})
	w.controllerStarts()
	w.feeds("1|"+endless, "2|"+endless, "3|"+endless, "4|"+endless, "5|"+endless)
	victim := w.worksOn(0, "[0-9]")
	w.must(w.metal.Reclaim(victim, time.Now().Add(2*time.Minute)))
	w.reports(0, "primes "+victim+" Handed back: ")
	mark := w.controller.Mark()
	w.sees("its process ended", func() (string, bool) {
		ids := w.metal.Running()
		return join(ids), !slices.Contains(ids, victim)
	})
	w.terminates(victim)
	if other := w.worksOn(mark, "[0-9]"); other == victim {
		t.Errorf("%s took a new job although its instance is being taken back", victim)
	}
}

// TestSlowBoot: an instance that still boots is not launched a second time.
func TestSlowBoot(t *testing.T) {
	w := begin(t, plot{pools: primesPool})
	w.metal.Delay(10 * time.Second)
	w.controllerStarts()
	w.feeds("1|6573")
	w.processed("1|6573")
	if n := len(w.everListed()); n != 1 {
		t.Errorf("got %d instances in all, want 1", n)
	}
}

// TestManyInstances runs more instances than most users have.
func TestManyInstances(t *testing.T) {
	const many = 151
	w := begin(t, plot{noMetal: true, pools: fmt.Sprintf(`  primes:
    policy: fixed
    image: walk-primes-*
    cloud: aws
    minimum_number_of_instances: %d
    maximum_number_of_instances: %d
    watchdog_interval: 0s
`, many, many)})
	var last string
	for range many {
		last = w.launches(map[string]string{
			cloud.TagDeployment: deployment, cloud.TagPool: "primes", cloud.TagState: "startup",
			cloud.TagStateSince: time.Now().UTC().Format(time.RFC3339),
		})
	}
	w.controllerStarts()
	w.sees("all adopted", w.has(many, "primes", "startup"))
	w.still("all there", 5*time.Second, w.has(many, "primes", "startup"))
	w.reportsNot(0, "primes Started instance")
	w.terminates(last)
	w.reports(0, "primes Instance "+last+" is gone")
	w.reports(0, "primes Started instance")
	w.sees("as many as before", func() (string, bool) { n := len(w.listed()); return fmt.Sprint(n), n == many })
}

// listsAgain waits until the controller has made another list of instances, and has got the answer.
func (w *world) listsAgain() {
	w.t.Helper()
	describes := func() int { return w.wire.Counts()[wire.Call{Service: "ec2", Action: "DescribeInstances"}] }
	before := describes()
	w.sees("two more lists", func() (string, bool) { return "", describes() >= before+2 })
}

// launches starts an instance of the primes image without the controller's knowledge.
func (w *world) launches(tags map[string]string) (id string) {
	w.t.Helper()
	in := &ec2.RunInstancesInput{
		ImageId: aws.String(w.images["primes-worker"]), InstanceType: types.InstanceTypeT3Micro,
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		UserData: aws.String(w.userData("primes")),
	}
	if len(tags) > 0 {
		spec := types.TagSpecification{ResourceType: types.ResourceTypeInstance}
		for key, value := range tags {
			spec.Tags = append(spec.Tags, types.Tag{Key: aws.String(key), Value: aws.String(value)})
		}
		in.TagSpecifications = []types.TagSpecification{spec}
	}
	out, err := w.ec2.RunInstances(w.t.Context(), in)
	w.must(err)
	return *out.Instances[0].InstanceId
}

// terminates ends an instance without the controller's knowledge.
func (w *world) terminates(id string) {
	w.t.Helper()
	_, err := w.ec2.TerminateInstances(w.t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	w.must(err)
}
