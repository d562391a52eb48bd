package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/broker"
	"cloudmaster/services/controller/internal/config"
)

// programs returns a directory with programs of these names.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sample is a configuration whose image exists.
func sample(t *testing.T, pool string) string {
	t.Helper()
	return "deployment: demo\nclouds:\n  local: {bin_dir: " + programs(t, "worker") +
		"}\npools:\n  primes: {image: worker, cloud: local, " + pool + "}\n"
}

// parse reads a document with the controller's own kinds.
func parse(doc string, set ...string) (*config.Config, error) {
	return config.Parse("c.yaml", []byte(doc), app.Kinds(), set...)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	cfg, err := parse(sample(t, "policy: job"))
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Pools["primes"]
	kind := p.Policy.Kind.Name
	p.Policy.Kind = policy.Kind{} // it has functions
	want := config.Pool{
		Name: "primes", Image: "worker", Cloud: "local", OnRemove: "leave",
		Policy: config.Policy{Settings: &policy.JobSettings{StartThreshold: 2, IdleThreshold: 1}},
		Limits: pool.Limits{
			Maximum: 2, StartLimit: 1, StopLimit: 1, MinimumLifetime: 5 * time.Minute,
			MinimumActiveTime: 2 * time.Minute,
		},
		Rollout:  pool.Rollout{MaxSurge: 1},
		Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BootDeadline: 10 * time.Minute, BreakerRatio: 0.5},
		Times: config.Times{
			PolicyInterval: time.Minute, PollInterval: 5 * time.Second, StatusInterval: time.Minute,
			ReportInterval: time.Minute, ActiveSetInterval: time.Minute,
		},
		Queues: []config.Queue{
			{"work", "work_queue_name", "primes-work-demo", queue.Limits{Visibility: 30 * time.Second, Deliveries: 5}},
			{
				"status", "status_queue_name", "primes-status-demo",
				queue.Limits{Deliveries: 1000, Retention: 14 * 24 * time.Hour},
			},
		},
		StatusParser: "std", VerifySender: true, ActiveSet: "none",
	}
	if diff := cmp.Diff(want, p); diff != "" || kind != "job" {
		t.Errorf("policy %s (-want +got):\n%s", kind, diff)
	}
	set := broker.Settings{Listen: "127.0.0.1:4222", StoreDir: "var/jetstream"}
	if cfg.Backend.Address != "embedded" || cmp.Diff(&set, cfg.Backend.Settings) != "" {
		t.Errorf("got backend %q with %+v", cfg.Backend.Address, cfg.Backend.Settings)
	}
	local := cfg.Clouds["local"]
	processes := &processcloud.Settings{Host: "127.0.0.1", StateDir: "var/instances", Grace: 30 * time.Second}
	if got, ok := local.Settings.(*processcloud.Settings); ok {
		processes.BinDir = got.BinDir
	}
	if diff := cmp.Diff(processes, local.Settings); diff != "" || local.Kind.Name != "process" ||
		local.AuditInterval != 2*time.Second {
		t.Errorf("got cloud of type %s listed every %s (-want +got):\n%s", local.Kind.Name, local.AuditInterval, diff)
	}
	if len(cfg.Reports) != 1 || cfg.Reports[0].Kind.Name != "console" || cfg.LogLevel != "info" {
		t.Errorf("got reports %v at level %s", cfg.Reports, cfg.LogLevel)
	}
}

func TestDefaultsSectionAndPool(t *testing.T) {
	t.Parallel()
	doc := sample(t, "start_limit: 7, settings: {max_n: 5}") +
		"defaults: {policy_interval: 5s, start_limit: 3, stop_limit: 4, active_set_type: s3}\n"
	cfg, err := parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Pools["primes"]
	if p.Times.PolicyInterval != 5*time.Second || p.Limits.StartLimit != 7 || p.Limits.StopLimit != 4 {
		t.Errorf("got interval %s, limits %d and %d, want 5s, 7 and 4", p.Times.PolicyInterval, p.Limits.StartLimit,
			p.Limits.StopLimit)
	}
	if p.ActiveSet != config.ActiveSetBlob {
		t.Errorf("got active set type %q, want the new name of s3", p.ActiveSet)
	}
	if p.Settings["max_n"] != 5 {
		t.Errorf("got settings %v", p.Settings)
	}
}

// TestLeaseTTL: where a renewal costs money there are few.
func TestLeaseTTL(t *testing.T) {
	t.Parallel()
	for backend, want := range map[string]time.Duration{
		"embedded": 15 * time.Second, "nats://a:4222": 15 * time.Second,
		"aws://eu-west-1": 3 * time.Minute, "aws://eu-west-1?bucket=aws": 3 * time.Minute,
	} {
		cfg, err := parse(sample(t, "") + "backend: " + backend + "\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Backend.Kind.LeaseTTL; got != want {
			t.Errorf("%s: got %s, want %s", backend, got, want)
		}
	}
}

// named returns the name of a pool's queue.
func named(p config.Pool, use config.Use) string {
	q, _ := p.Queue(use)
	return q.Name
}

func TestNoDeploymentNoSuffix(t *testing.T) {
	t.Parallel()
	cfg, err := parse(strings.Replace(sample(t, "work_queue_name: jobs"), "demo", `""`, 1))
	if err != nil {
		t.Fatal(err)
	}
	if p := cfg.Pools["primes"]; named(p, config.Work) != "jobs" || named(p, config.Status) != "primes-status" {
		t.Errorf("got queues %+v", p.Queues)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("CLOUDMASTER_DEPLOYMENT", "prod")
	t.Setenv("CLOUDMASTER_POOLS_PRIMES_START_LIMIT", "9")
	t.Setenv("CLOUDMASTER_POOLS_PRIMES_POLICY_INTERVAL", "90s")
	t.Setenv("CLOUDMASTER_DEFAULTS_STOP_LIMIT", "8")
	t.Setenv("CLOUDMASTER_BROKER_LISTEN", "127.0.0.1:1")
	t.Setenv("CLOUDMASTER_REPORT", "console,log")
	t.Setenv("CLOUDMASTER_POOLS_PRIMES_SETTINGS", "{max_n: 5}")
	cfg, err := parse(sample(t, "start_limit: 2"))
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Pools["primes"]
	if p.Limits.StartLimit != 9 || p.Limits.StopLimit != 8 || p.Times.PolicyInterval != 90*time.Second ||
		named(p, config.Work) != "primes-work-prod" {
		t.Errorf("got %+v", p)
	}
	if p.Settings["max_n"] != 5 {
		t.Errorf("got settings %v, want max_n 5", p.Settings)
	}
	if set, ok := cfg.Backend.Settings.(*broker.Settings); !ok || set.Listen != "127.0.0.1:1" || len(cfg.Reports) != 2 {
		t.Errorf("got backend %+v, reports %v", cfg.Backend, cfg.Reports)
	}
}

// TestDeadLettersTaken: what one pool buries must not be another's work.
func TestDeadLettersTaken(t *testing.T) {
	t.Parallel()
	doc := strings.Replace(sample(t, "work_queue_name: x"), "deployment: demo", "deployment: dead", 1) +
		"  two: {image: worker, cloud: local, work_queue_name: x-dead}\n"
	_, err := parse(doc)
	if err == nil || !strings.Contains(err.Error(),
		"x-dead-dead is already for the dead letters of the work queue of primes") {
		t.Errorf("got %v, want the dead letters' name refused", err)
	}
}

func TestSettingsTooLarge(t *testing.T) {
	t.Parallel()
	doc := sample(t, "settings: {a: "+strings.Repeat("x", 17<<10)+"}")
	if _, err := parse(doc); err == nil || !strings.Contains(err.Error(), "pools.primes.settings: ") {
		t.Errorf("got %v, want the settings refused", err)
	}
}

func TestSet(t *testing.T) {
	t.Setenv("CLOUDMASTER_POOLS_PRIMES_START_LIMIT", "9")
	cfg, err := parse(sample(t, "stop_limit: 2"), "pools.primes.start_limit=4", "deployment=prod",
		"pools.primes.settings={a: 1}")
	if err != nil {
		t.Fatal(err)
	}
	if p := cfg.Pools["primes"]; p.Limits.StartLimit != 4 || p.Limits.StopLimit != 2 ||
		named(p, config.Work) != "primes-work-prod" || p.Settings["a"] != 1 {
		t.Errorf("got %+v", p)
	}
	for set, want := range map[string]string{
		"deployment":                 "--set deployment: it is not KEY=VALUE",
		"pools.primes.colour=red":    "--set pools.primes.colour: unknown key",
		"pools.fib.start_limit=1":    "--set pools.fib.start_limit: unknown key",
		"pools.primes.start_limit=x": "pools.primes.start_limit: x is not a whole number",
	} {
		if _, err := parse(sample(t, ""), set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: got %v, want %s", set, err, want)
		}
	}
}

func TestComplaints(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		pool, rest string
		want       []string
	}{
		"unknown key": {
			pool: "polcy: job", want: []string{"c.yaml:5: pools.primes.polcy: unknown key, did you mean policy?"},
		},
		"unknown top key":      {rest: "colour: red", want: []string{"c.yaml:6: colour: unknown key; known here are "}},
		"image under defaults": {rest: "defaults: {image: x}", want: []string{"defaults.image: unknown key"}},
		"key twice":            {rest: "backend: embedded\nbackend: embedded", want: []string{"backend"}},
		"no such policy": {
			pool: "policy: psychic",
			want: []string{`pools.primes.policy: there is no policy "psychic": there are fixed, job, resource`},
		},
		"minimum above maximum": {
			pool: "minimum_number_of_instances: 5",
			want: []string{"pools.primes: minimum_number_of_instances is 5, more than maximum_number_of_instances, 2"},
		},
		"negative limits": {
			pool: "start_limit: -1, stop_limit: -2", want: []string{"start_limit is -1", "stop_limit is -2"},
		},
		"a rollout that cannot move": {
			pool: "rollout: {max_surge: 0}",
			want: []string{"c.yaml:5: pools.primes.rollout: max_unavailable and max_surge are both 0"},
		},
		"a rollout of minus one": {
			pool: "rollout: {max_surge: -1, max_unavailable: -2}",
			want: []string{"max_surge is -1: write 0 or more", "max_unavailable is -2: write 0 or more"},
		},
		"a rollout of halves": {
			pool: "rollout: {max_surge: 50%}",
			want: []string{"c.yaml:5: pools.primes.rollout: max_surge: 50% is not a whole number"},
		},
		"a rollout mistyped": {
			pool: "rollout: {max_sruge: 1, paused: 7}",
			want: []string{"max_sruge: unknown key, did you mean max_surge?", "paused: 7 is not true or false"},
		},
		"a rollout that is none": {
			pool: "rollout: slowly", want: []string{
				"c.yaml:5: pools.primes.rollout: slowly is not a mapping of keys to values, as {max_surge: 1}",
			},
		},
		"a rollout with all keys wrong": {
			pool: "rollout: {max_surge: a, max_unavailable: 1.5, paused: z}",
			want: []string{
				"max_surge: a is not a whole number", "max_unavailable: 1.5 is not a whole number",
				"paused: z is not true or false",
			},
		},
		"settings that are none": {
			pool: "settings: 3", want: []string{"settings: 3 is not a mapping of keys to values, as {max_n: 5}"},
		},
		"a lifetime too short": {
			pool: "maximum_lifetime: 5s",
			want: []string{"c.yaml:5: pools.primes.maximum_lifetime: 5s is less than 1m0s"},
		},
		"lifetimes crossed": {
			pool: "maximum_lifetime: 4m",
			want: []string{"pools.primes.maximum_lifetime: 4m0s is not more than minimum_lifetime, 5m0s"},
		},
		"bare duration": {
			pool: "policy_interval: 5",
			want: []string{"c.yaml:5: pools.primes.policy_interval: 5 is not a duration, as 5s or 10m"},
		},
		"poll interval too short": {
			pool: "poll_interval: 500ms", want: []string{"c.yaml:5: pools.primes.poll_interval: 500ms is less than 1s"},
		},
		"bad number": {
			pool: "start_limit: many", want: []string{"pools.primes.start_limit: many is not a whole number"},
		},
		"bad float": {
			pool: "policy: resource, target_upper_load: .nan", want: []string{"target_upper_load is NaN"},
		},
		"loads crossed": {
			pool: "policy: resource, target_upper_load: 0.2",
			want: []string{"target_lower_load is 0.25, not below target_upper_load, 0.2"},
		},
		"thresholds": {
			pool: "policy: job, start_threshold: 0, idle_threshold: 0",
			want: []string{"start_threshold is 0, the least is 1", "idle_threshold is 0, the least is 1"},
		},
		"no such cloud": {pool: "cloud: moon", want: []string{`there is no cloud "moon": there are local`}},
		"cloud type":    {rest: "", pool: "x: 1", want: []string{"pools.primes.x: unknown key"}},
		"parser": {
			pool: "status_parser: morse", want: []string{`there is no parser "morse": there are lifeguard, std`},
		},
		"active set type": {pool: "active_set_type: fax", want: []string{`"fax" is not none or blob`}},
		"watchdog too short": {
			pool: "watchdog_interval: 1m", want: []string{"1m0s is less than twice status_interval, 1m0s"},
		},
		"breaker ratio": {pool: "breaker_ratio: 2", want: []string{"2 is not above 0 and at most 1"}},
		"backend": {
			rest: "backend: carrier-pigeon", want: []string{`"carrier-pigeon" is neither embedded nor an address`},
		},
		"region": {
			rest: "backend: aws://moon",
			want: []string{`"aws://moon" is not an address as aws://eu-west-1: "moon" is not an AWS region`},
		},
		"credentials for AWS": {
			rest: "backend: aws://key:secret@eu-west-1", want: []string{"credentials come from the environment"},
		},
		"worker's region": {
			rest: "worker_backend: aws://eu-west-1?buket=x", want: []string{`unknown option "buket"`},
		},
		"report":    {rest: "report: telegram", want: []string{`"telegram" is not one of console, log`}},
		"log level": {rest: "log_level: loud", want: []string{`"loud" is not debug, info, warn or error`}},
		"queue taken": {
			pool: "work_queue_name: q, status_queue_name: q",
			want: []string{"pools.primes.status_queue_name: q-demo is already the work queue of primes"},
		},
		"backend of another kind": {
			rest: "backend: ftp://a:1", want: []string{`"ftp://a:1" is neither embedded nor an address`},
		},
		"worker backend": {rest: "worker_backend: '???'", want: []string{`worker_backend: "???" is not an address`}},
		"credentials": {
			rest: "backend: nats://u:geheim@a:4222",
			want: []string{"worker_backend: instances would be told the credentials"},
		},
		"listen addresses": {
			rest: "ops_listen: x\nbroker: {listen: 'a:99999', store_dir: ''}",
			want: []string{
				`ops_listen: "x" is not HOST:PORT`, `broker.listen: "a:99999" is not`, "broker.store_dir: is empty",
			},
		},
		"every kind at once": {
			pool: "policy: psychic, polcy: x, policy_interval: 5, minimum_number_of_instances: 9, image: ghost, " +
				"start_limit: many",
			rest: "bakend: x",
			want: []string{
				"did you mean policy?", "did you mean backend?", "5 is not a duration", "many is not a whole number",
				"no policy",
				"more than maximum", "no program",
			},
		},
		"breaker ratio NaN": {pool: "breaker_ratio: .nan", want: []string{"NaN is not above 0"}},
		"a fraction":        {pool: "maximum_number_of_instances: 2.7", want: []string{"2.7 is not a whole number"}},
		"true":              {pool: "maximum_number_of_instances: true", want: []string{"true is not a whole number"}},
		"nothing":           {pool: "maximum_number_of_instances: ''", want: []string{" is not a whole number"}},
		"too large": {
			pool: "maximum_number_of_instances: 99999999999999999999", want: []string{"is not a whole number"},
		},
		"image with a path": {pool: "image: ../worker", want: []string{"is not the name of a program in bin_dir"}},
		"two documents":     {rest: "---\na: b", want: []string{"second document"}},
		"both addresses": {
			rest: "backend: aws://moon\nworker_backend: nats://",
			want: []string{`backend: "aws://moon" is not an address`, `worker_backend: "nats://" is not an address`},
		},
		"several at once": {
			pool: "policy: psychic, start_limit: -1", rest: "log_level: loud",
			want: []string{"there is no policy", "start_limit is -1", `"loud"`},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := sample(t, c.pool)
			if strings.Contains(c.pool, "image:") {
				doc = strings.Replace(doc, "image: worker, ", "", 1)
			}
			if strings.Contains(c.pool, "cloud:") {
				doc = strings.Replace(doc, "cloud: local, ", "", 1)
			}
			_, err := parse(doc + c.rest + "\n")
			if err == nil {
				t.Fatalf("%s: no complaint", doc+c.rest)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got\n%v\nwant it to say\n%s", err, want)
				}
			}
		})
	}
}

func TestMissingImage(t *testing.T) {
	t.Parallel()
	doc := strings.Replace(sample(t, "policy: job"), "image: worker", "image: ghost", 1)
	_, err := parse(doc)
	if err == nil || !strings.Contains(err.Error(), "c.yaml:5: pools.primes.image: there is no program ") ||
		!strings.Contains(err.Error(), "make build") {
		t.Errorf("got %v, want the missing program with the next step", err)
	}
}

func TestNotAConfiguration(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		"", "5", "- a", "\x00", "a: [", "pools: 5", "pools: {primes: 5}",
		"pools: {Primes: {image: worker}}", "clouds: 7", "defaults: x",
	} {
		if cfg, err := parse(doc); err == nil {
			t.Errorf("%q: got %+v, want an error", doc, cfg)
		}
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	if _, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"), app.Kinds()); err == nil ||
		!strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

// TestShipped loads every configuration that the repository ships.
func TestShipped(t *testing.T) {
	files, err := filepath.Glob("../../../../deploy/*/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v, %v", files, err)
	}
	t.Setenv("CLOUDMASTER_CLOUDS_LOCAL_BIN_DIR", programs(t, "primes-worker", "fib-server"))
	for _, file := range files {
		if _, err := config.Load(file, app.Kinds()); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("deployment: demo\npools:\n  primes: {image: worker, cloud: local}\n"))
	f.Add([]byte("pools: {p: {policy_interval: 5, start_limit: x}}\ndefaults: {a: b}"))
	f.Add([]byte("broker: {listen: 1}\nclouds: {l: {type: [1]}}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		cfg, err := parse(string(doc))
		if err == nil && len(cfg.Pools) == 0 {
			t.Errorf("%q: accepted without a pool", doc)
		}
	})
}
