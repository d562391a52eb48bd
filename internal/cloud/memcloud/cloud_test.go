package memcloud_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/cloudtest"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]memcloud.Options{
		"instant": {},
		"slow": {
			BootDelay: 20 * time.Millisecond, TerminateDelay: 20 * time.Millisecond,
			ListLag: 30 * time.Millisecond, Latency: time.Millisecond,
		},
		"knows ids": {KnowsIDs: true, ListLag: 5 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts.Images = []string{"ami-1"}
			cloudtest.Run(t, harness(opts))
		})
	}
}

// harness returns a harness that gives each test an account of its own.
func harness(opts memcloud.Options) cloudtest.Harness {
	var mu sync.Mutex
	accounts := map[*testing.T]*memcloud.Account{} // guarded by mu
	account := func(t *testing.T) *memcloud.Account {
		mu.Lock()
		defer mu.Unlock()
		if accounts[t] == nil {
			accounts[t] = newAccount(t, opts)
		}
		return accounts[t]
	}
	return cloudtest.Harness{
		Open: func(t *testing.T, deployment string, capacity int) cloud.Cloud {
			t.Helper()
			account(t).SetCapacity(capacity)
			return account(t).Cloud(deployment)
		},
		Image: "ami-1", MissingImage: "ami-0", UnknownID: "i-999999",
		UserData: func(t *testing.T, _ cloud.Cloud, inst cloud.Instance) ([]byte, bool) {
			t.Helper()
			return account(t).UserData(inst.ID)
		},
		KnowsIDs: opts.KnowsIDs, Capacity: true, Tokens: true, Conflicts: true, Stops: true,
	}
}

func newAccount(t *testing.T, opts memcloud.Options) *memcloud.Account {
	t.Helper()
	a, err := memcloud.New(opts)
	if err != nil {
		t.Fatalf("New: got error %v, want none", err)
	}
	return a
}

func spec(token string, n int) cloud.Spec {
	return cloud.Spec{Token: token, Count: n, Image: "ami-1", Tags: map[string]string{cloud.TagPool: "main"}}
}

func launch(t *testing.T, c cloud.Cloud, token string, n int) []pool.InstanceID {
	t.Helper()
	out, err := c.Launch(t.Context(), spec(token, n))
	if err != nil || len(out) != n {
		t.Fatalf("Launch: got %d instances and error %v, want %d and none", len(out), err, n)
	}
	return ids(out)
}

func terminate(t *testing.T, c cloud.Cloud, ids ...pool.InstanceID) {
	t.Helper()
	if err := c.Terminate(t.Context(), ids...); err != nil {
		t.Fatalf("Terminate: got error %v, want none", err)
	}
}

func ids(list []cloud.Instance) []pool.InstanceID {
	var out []pool.InstanceID
	for _, in := range list {
		out = append(out, in.ID)
	}
	return out
}

// listed returns what c lists, as "i-000001 running, …".
func listed(t *testing.T, c cloud.Cloud) string {
	t.Helper()
	out, err := c.List(t.Context())
	if err != nil {
		t.Fatalf("List: got error %v, want none", err)
	}
	return phases(out)
}

func phases(list []cloud.Instance) string {
	var out []string
	for _, in := range list {
		out = append(out, fmt.Sprintf("%s %s", in.ID, in.Phase))
	}
	return strings.Join(out, ", ")
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		opts memcloud.Options
		want string
	}{
		"boot delay":      {memcloud.Options{BootDelay: -time.Second}, "boot delay is -1s"},
		"terminate delay": {memcloud.Options{TerminateDelay: -time.Second}, "terminate delay is -1s"},
		"lag":             {memcloud.Options{ListLag: -time.Second}, "list lag is -1s"},
		"latency":         {memcloud.Options{Latency: -time.Second}, "latency is -1s"},
		"capacity":        {memcloud.Options{Capacity: -1}, "capacity is -1"},
		"burst":           {memcloud.Options{CallRate: 2}, "bursts of 0"},
	} {
		if _, err := memcloud.New(tc.opts); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got error %v, want %q in it", name, err, tc.want)
		}
	}
}

// TestLifeOfAnInstance checks what a list shows, and when: as on EC2, everything is listed late,
// but in the right order.
func TestLifeOfAnInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, memcloud.Options{
			BootDelay: 30 * time.Second, TerminateDelay: 20 * time.Second, ListLag: 5 * time.Second,
		})
		c := a.Cloud("d")
		launch(t, c, "one", 1)
		start := time.Now()
		for _, step := range []struct {
			at          time.Duration
			list, truth string
			do          func()
		}{
			{0, "", "i-000001 pending", nil},
			{4999 * time.Millisecond, "", "i-000001 pending", nil},
			{5 * time.Second, "i-000001 pending", "i-000001 pending", nil},
			{30 * time.Second, "i-000001 pending", "i-000001 running", nil},
			{35 * time.Second, "i-000001 running", "i-000001 running", nil},
			{40 * time.Second, "i-000001 running", "i-000001 running", func() { terminate(t, c, "i-000001") }},
			{41 * time.Second, "i-000001 running", "i-000001 terminating", nil},
			{45 * time.Second, "i-000001 terminating", "i-000001 terminating", func() { terminate(t, c, "i-000001") }},
			{60 * time.Second, "i-000001 terminating", "", nil},
			{65 * time.Second, "", "", nil},
		} {
			time.Sleep(time.Until(start.Add(step.at)))
			if got := listed(t, c); got != step.list {
				t.Errorf("at %s: List: got %q, want %q", step.at, got, step.list)
			}
			if got := phases(a.Instances()); got != step.truth {
				t.Errorf("at %s: Instances: got %q, want %q", step.at, got, step.truth)
			}
			if step.do != nil {
				step.do()
			}
		}
	})
}

func TestVanish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended []string
		a := newAccount(t, memcloud.Options{
			ListLag: time.Second, TerminateDelay: time.Hour,
			OnTerminate: func(in cloud.Instance) { ended = append(ended, string(in.ID)) },
		})
		c := a.Cloud("d")
		launch(t, c, "one", 3)
		time.Sleep(time.Second)
		terminate(t, c, "i-000001")
		a.Vanish("i-000001", "i-000002", "i-999999")
		if got, want := phases(a.Instances()), "i-000003 running"; got != want {
			t.Errorf("Instances: got %q, want %q", got, want)
		}
		if err := c.Tag(t.Context(), nil, "i-000002"); !errors.Is(err, cloud.ErrNotFound) {
			t.Errorf("Tag: got error %v, want ErrNotFound", err)
		}
		if got, want := listed(t, c), "i-000001 running, i-000002 running, i-000003 running"; got != want {
			t.Errorf("List: got %q, want %q: it lags", got, want)
		}
		time.Sleep(time.Second)
		if got, want := listed(t, c), "i-000003 running"; got != want {
			t.Errorf("List later: got %q, want %q", got, want)
		}
		if want := []string{"i-000001", "i-000002"}; !slices.Equal(ended, want) {
			t.Errorf("OnTerminate: got %v, want %v, once each", ended, want)
		}
	})
}

func TestHooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []string // guarded by mu
		start := time.Now()
		var c *memcloud.Cloud
		hook := func(what string) func(cloud.Instance) {
			return func(in cloud.Instance) {
				if _, err := c.List(t.Context()); err != nil { // hooks are allowed to call the cloud
					t.Errorf("List: got error %v, want none", err)
				}
				in.Tags["spoilt"] = "by a hook"
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, fmt.Sprintf("%s %s %s %s", time.Since(start), what, in.ID, in.Phase))
			}
		}
		a := newAccount(t, memcloud.Options{
			BootDelay: 10 * time.Second,
			OnLaunch:  hook("launch"), OnRunning: hook("running"), OnTerminate: hook("terminate"),
		})
		c = a.Cloud("d")
		launch(t, c, "one", 2)
		launch(t, c, "one", 2) // the same token again: no hook is called
		time.Sleep(5 * time.Second)
		terminate(t, c, "i-000002")
		terminate(t, c, "i-000002")
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		want := []string{
			"0s launch i-000001 pending", "0s launch i-000002 pending",
			"5s terminate i-000002 terminating", "10s running i-000001 running",
		}
		if diff := cmp.Diff(want, seen); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}
		if _, ok := a.Instances()[0].Tags["spoilt"]; ok {
			t.Error("tags: got what a hook wrote, want hooks to get copies")
		}
	})
}

func TestCapacityIsOfTheAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, memcloud.Options{Capacity: 3, TerminateDelay: time.Minute})
		foreign := launch(t, a.Cloud("foreign"), "one", 2)
		c := a.Cloud("d")
		out, err := c.Launch(t.Context(), spec("two", 2))
		if len(out) != 1 || !errors.Is(err, cloud.ErrCapacity) {
			t.Errorf("Launch: got %d instances and error %v, want 1 and ErrCapacity", len(out), err)
		}
		terminate(t, a.Cloud("foreign"), foreign...)
		if out, err := c.Launch(t.Context(), spec("three", 1)); len(out) != 0 || !errors.Is(err, cloud.ErrCapacity) {
			t.Errorf("Launch while they end: got %d instances and error %v, want none and ErrCapacity", len(out), err)
		}
		time.Sleep(time.Minute)
		launch(t, c, "three", 1)
		a.SetCapacity(1)
		if got := len(a.Instances()); got != 2 {
			t.Errorf("less capacity: got %d instances, want 2 to live on", got)
		}
	})
}

// TestUserDataIsAParameter: other user data with the same token is a conflict, as on EC2.
func TestUserDataIsAParameter(t *testing.T) {
	t.Parallel()
	for knows, want := range map[bool]error{false: cloud.ErrConflict, true: nil} {
		c := newAccount(t, memcloud.Options{KnowsIDs: knows}).Cloud("d")
		launch(t, c, "one", 1)
		other := spec("one", 1)
		other.UserData = func(pool.InstanceID) ([]byte, error) { return []byte("other"), nil }
		if _, err := c.Launch(t.Context(), other); !errors.Is(err, want) {
			t.Errorf("knows ids %t: got error %v, want %v", knows, err, want)
		}
	}
}

func TestManyLaunchesStayFast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newAccount(t, memcloud.Options{BootDelay: time.Minute, ListLag: time.Second}).Cloud("d")
		for i := range 2000 {
			terminate(t, c, launch(t, c, fmt.Sprintf("t-%d", i), 1)...)
			time.Sleep(2 * time.Second)
			if got := listed(t, c); got != "" {
				t.Fatalf("List: got %q, want nothing", got)
			}
		}
	})
}
