package agent_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/agent"
)

const goldenUserData = `deployment: demo
pool: fib
instance_id: i-0abc
backend: nats://127.0.0.1:4222
queues:
    work: fib-work-demo
    status: fib-status-demo
status_interval: 30s
settings:
    listen: :20808
    max_clients: 10
`

func sampleUserData() agent.UserData {
	return agent.UserData{
		Deployment: "demo", Pool: "fib", InstanceID: "i-0abc", Backend: "nats://127.0.0.1:4222",
		Queues:         agent.Queues{Work: "fib-work-demo", Status: "fib-status-demo"},
		StatusInterval: 30 * time.Second,
		Settings:       map[string]any{"max_clients": 10, "listen": ":20808"},
	}
}

func TestUserDataIsAsDocumented(t *testing.T) {
	t.Parallel()
	got, err := sampleUserData().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goldenUserData, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUserDataRoundTrip(t *testing.T) {
	t.Parallel()
	least := agent.UserData{Pool: "primes", Backend: "nats://h", Queues: agent.Queues{Status: "primes-status"}}
	nested := sampleUserData()
	nested.Settings = map[string]any{
		"on": true, "ratio": 0.5, "list": []any{"a", 1}, "deep": map[string]any{"k": "v"}, "word": "yes",
	}
	for name, want := range map[string]agent.UserData{
		"all": sampleUserData(), "least": least, "nested settings": nested,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, err := want.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := agent.DecodeUserData(doc)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("after encode and decode: %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestEncodeRefusesWhatNoCloudTakes(t *testing.T) {
	t.Parallel()
	u := sampleUserData()
	u.Settings["text"] = strings.Repeat("x", agent.MaxUserData)
	_, err := u.Encode()
	wantError(t, err, "the most is 16384: shorten the pool's settings")
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
}

func TestDecodeUserDataRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ doc, want string }{
		"empty":         {"", "user data: missing: pool, backend, queues.status"},
		"a comment":     {"# nothing\n", "user data: missing: pool, backend, queues.status"},
		"no queues":     {"pool: fib\nbackend: nats://h\n", "missing: queues.status"},
		"unknown key":   {goldenUserData + "colour: red\n", "line 12: field colour not found"},
		"unknown queue": {"queues: {satus: x}", "line 1: field satus not found"},
		"not YAML":      {"\x00", "user data: yaml:"},
		"not a mapping": {"abc", "user data: yaml:"},
		"key twice":     {goldenUserData + "pool: fib\n", `"pool" already`},
		"too large":     {strings.Repeat("#", agent.MaxUserData+1), "user data: 16385 bytes, the most is 16384"},
		"interval without a unit": {
			strings.Replace(goldenUserData, "30s", "30", 1), "line 8: cannot unmarshal !!int `30` into time.Duration",
		},
		"negative interval": {strings.Replace(goldenUserData, "30s", "-1s", 1), "status_interval is -1s, less than 0"},
		"interval in words": {strings.Replace(goldenUserData, "30s", "often", 1), "often"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := agent.DecodeUserData([]byte(c.doc))
			wantError(t, err, c.want)
			if diff := cmp.Diff(agent.UserData{}, got); diff != "" {
				t.Errorf("got user data beside the error:\n%s", diff)
			}
		})
	}
}

func TestIdentify(t *testing.T) {
	t.Setenv(agent.EnvUserData, goldenUserData)
	got, err := agent.Identify(t.Context(), nil)
	if diff := cmp.Diff(sampleUserData(), got); err != nil || diff != "" {
		t.Errorf("got error %v and (-want +got):\n%s", err, diff)
	}
}

func TestIdentifyRefuses(t *testing.T) {
	cases := map[string]struct{ doc, want string }{
		"nothing at all": {"", "CLOUDMASTER_USER_DATA: user data: missing: pool, instance_id, backend, queues.status"},
		"no id":          {strings.Replace(goldenUserData, "instance_id: i-0abc\n", "", 1), "missing: instance_id"},
		"unknown key":    {"colour: red\n", "CLOUDMASTER_USER_DATA: user data: yaml: line 1: field colour"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv(agent.EnvUserData, c.doc)
			_, err := agent.Identify(t.Context(), nil)
			wantError(t, err, c.want)
			if errors.Is(err, agent.ErrNoUserData) {
				t.Error("got ErrNoUserData, want another: there is user data, if bad")
			}
		})
	}
}

func TestIdentifyWithoutUserData(t *testing.T) {
	t.Setenv(agent.EnvUserData, "") // restores the environment afterwards
	if err := os.Unsetenv(agent.EnvUserData); err != nil {
		t.Fatal(err)
	}
	_, err := agent.Identify(t.Context(), nil)
	if !errors.Is(err, agent.ErrNoUserData) {
		t.Errorf("got %v, want ErrNoUserData", err)
	}
	wantError(t, err, "CLOUDMASTER_USER_DATA is not set")
}

func FuzzDecodeUserData(f *testing.F) {
	f.Add([]byte(goldenUserData))
	f.Add([]byte("pool: a\nbackend: b\nqueues: {status: c}\n" +
		"settings: {a: [1, 2.5, x], b: {c: ~}}\nstatus_interval: 1h"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		u, err := agent.DecodeUserData(doc)
		if err != nil {
			return
		}
		u.Settings = nil // any YAML at all; what must survive is what the agent itself acts on
		again, err := u.Encode()
		if err != nil {
			return // larger with its quotes than a cloud takes
		}
		got, err := agent.DecodeUserData(again)
		if diff := cmp.Diff(u, got); err != nil || diff != "" {
			t.Errorf("written and read again: %v (-first +second):\n%s", err, diff)
		}
	})
}
