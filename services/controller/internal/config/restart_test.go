package config_test

import (
	"strings"
	"testing"

	"cloudmaster/services/controller/internal/config"
)

const running = `deployment: demo
backend: aws://eu-west-1
report: [console, {type: postcard, to: me}]
clouds: {aws: {type: ec2, subnets: [subnet-1]}}
pools:
  a: {policy: calendar, base: job, image: x, cloud: aws, settings: {n: 1}}
`

func mustParse(t *testing.T, doc string) *config.Config {
	t.Helper()
	cfg, err := parseMore(doc)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestRestart: what pools say may change while the controller runs, what they stand on may not.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new, want string }{
		"nothing":        {"", "", ""},
		"a pool":         {"image: x", "image: y, start_limit: 3", ""},
		"another pool":   {"pools:", "pools:\n  b: {image: x, cloud: aws}", ""},
		"another cloud":  {"clouds: {", "clouds: {far: {type: ec2}, ", ""},
		"deployment":     {"demo", "prod", "deployment has changed"},
		"backend":        {"eu-west-1", "eu-west-2", "backend has changed"},
		"worker backend": {"report:", "worker_backend: aws://eu-west-1\nreport:", "worker_backend has changed"},
		"report":         {"to: me", "to: you", "report has changed"},
		"cloud":          {"subnet-1", "subnet-2", "clouds.aws has changed"},
		"audit":          {"subnets:", "audit_instance_interval: 5s, subnets:", "clouds.aws has changed"},
		"log level":      {"report:", "log_level: debug\nreport:", "log_level has changed"},
		"ops":            {"report:", "ops_listen: ':1'\nreport:", "ops_listen has changed"},
	} {
		err := config.Restart(mustParse(t, running), mustParse(t, strings.Replace(running, c.old, c.new, 1)))
		switch {
		case c.want == "" && err == nil:
		case c.want == "" || err == nil || !strings.HasPrefix(err.Error(), c.want) ||
			strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: got %v, want %q and no more", name, err, c.want)
		}
	}
	embedded := strings.Replace(sample(t, ""), "deployment: demo\n", "broker: {store_dir: a}\n", 1)
	err := config.Restart(mustParse(t, embedded),
		mustParse(t, strings.Replace(embedded, "store_dir: a", "store_dir: b", 1)))
	if err == nil || !strings.HasPrefix(err.Error(), "broker has changed") {
		t.Errorf("broker: got %v", err)
	}
}

// TestRevision: a pool that is read again unchanged is the same, and every change shows.
func TestRevision(t *testing.T) {
	t.Parallel()
	revision := func(doc string) string {
		p := mustParse(t, doc).Pools["a"]
		return p.Revision()
	}
	seen := map[string]string{revision(running): "as it was"}
	if _, same := seen[revision(running)]; !same {
		t.Error("read again unchanged, the pool has another revision")
	}
	for _, change := range [][2]string{
		{"image: x", "image: y"},
		{"n: 1", "n: 2"},
		{"n: 1", "n: '1'"},
		{"base: job", "base: fixed"},
		{"base: job", "base: job, idle_threshold: 2"},
		{"base: job", "base: job, strict: true, windows: [{days: [mon]}]"},
		{"image: x", "image: x, subnets: [subnet-2]"},
		{"image: x", "image: x, on_remove: drain"},
		{"image: x", "image: x, start_limit: 4"},
		{"image: x", "image: x, warm: {stopped: 1}"},
		{"image: x", "image: x, watchdog_interval: 0s"},
		{"image: x", "image: x, status_interval: 9s"},
		{"image: x", "image: x, work_queue_name: w"},
		{"image: x", "image: x, max_deliveries: 9"},
		{"image: x", "image: x, status_parser: lifeguard"},
		{"image: x", "image: x, active_set_type: blob"},
		{"image: x", "image: x, service_port: 1"},
		{"image: x", "image: x, maximum_lifetime: 24h"},
		{"image: x", "image: x, rollout: {paused: true}"},
		{"image: x", "image: x, rollout: {max_surge: 2}"},
		{"policy: calendar, base: job", "policy: job"},
		{"deployment: demo", "deployment: other"},
	} {
		got := revision(strings.Replace(running, change[0], change[1], 1))
		if other, taken := seen[got]; taken {
			t.Errorf("%s: got the revision of %s", change[1], other)
		}
		seen[got] = change[1]
	}
}
