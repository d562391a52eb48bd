package ami

import (
	"fmt"
	"net/http"
	"testing"
)

// TestController: the unit writes the user data to the file that the controller reads, and the controller leads. User
// data that are no configuration are refused on the console, and once they are right the controller starts.
func TestController(t *testing.T) {
	needImage(t, "controller")
	w := onNATS(t)
	w.metadata.SetUserData("#!/bin/sh\ntouch /etc/owned\n")
	w.powerOn()
	refused := w.wantSaid("controller: the configuration cannot be used")
	w.wantAgain(refused)
	w.wantSaid("cloud-init", "finished", "Datasource DataSourceEc2")

	w.metadata.SetUserData(fmt.Sprintf(`
deployment: boot
backend: %s
ops_listen: 0.0.0.0:%d
report: log
clouds: {local: {type: process, bin_dir: /usr/lib/cloudmaster, state_dir: /var/lib/cloudmaster/instances}}
pools: {guest: {policy: job, image: controller, cloud: local, maximum_number_of_instances: 1}}
`, w.address, guestFibPort))
	w.until("the controller is ready", func() bool {
		answer, err := http.Get("http://" + w.fib + "/readyz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close() // its status is all that is asked for
		return answer.StatusCode == http.StatusOK
	})
	w.pressPower()
	w.wantOff()
	wantOne(t, w.journal(), refused)
	if w.has("/etc/owned") {
		t.Error("a script in the user data was run as root")
	}
}
