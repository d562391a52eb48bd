package memcloud_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
)

// TestLivesOfAnInstance: it takes its time to stop and to start, late lists show what was, and its hooks are called in
// each life.
func TestLivesOfAnInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var hooks []string // guarded by mu: one hook is called by a timer
		hook := func(name string) func(cloud.Instance) {
			return func(cloud.Instance) {
				mu.Lock()
				defer mu.Unlock()
				hooks = append(hooks, name)
			}
		}
		a := newAccount(t, memcloud.Options{
			BootDelay: 10 * time.Second, HaltDelay: 5 * time.Second, ListLag: time.Second, Images: []string{"ami-1"},
			OnLaunch: hook("launch"), OnRunning: hook("run"), OnStop: hook("stop"), OnTerminate: hook("end"),
		})
		c := a.Cloud("d")
		out, err := c.Launch(t.Context(), cloud.Spec{Token: "t", Count: 1, Image: "ami-1"})
		if err != nil {
			t.Fatal(err)
		}
		id := out[0].ID
		want := func(now, listed cloud.Phase) {
			t.Helper()
			list, err := c.List(t.Context())
			if err != nil || len(list) != 1 || list[0].Phase != listed || a.Instances()[0].Phase != now {
				t.Errorf("got it %v, listed as %v, error %v; want it %s, listed as %s", a.Instances(), list, err, now,
					listed)
			}
		}
		time.Sleep(12 * time.Second)
		want(cloud.Running, cloud.Running)
		if err := c.Stop(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		want(cloud.Halting, cloud.Running)
		if err := c.Start(t.Context(), id); !errors.Is(err, cloud.ErrNotStopped) {
			t.Errorf("Start while it stops: got error %v, want ErrNotStopped", err)
		}
		time.Sleep(5 * time.Second)
		want(cloud.Stopped, cloud.Halting)
		time.Sleep(time.Second)
		a.LoseAnswer(memcloud.OpStart, errors.New("lost"))
		if err := c.Start(t.Context(), id); err == nil || cloud.Refused(err) {
			t.Errorf("Start whose answer is lost: got error %v, want one that leaves it open", err)
		}
		want(cloud.Pending, cloud.Stopped)
		time.Sleep(5 * time.Second)
		if err := c.Stop(t.Context(), id); err != nil { // before it has booted
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		want(cloud.Stopped, cloud.Stopped)
		mu.Lock()
		defer mu.Unlock()
		if w := []string{"launch", "run", "stop", "launch", "stop"}; !slices.Equal(hooks, w) {
			t.Errorf("got hooks %v, want %v", hooks, w)
		}
	})
}
