package config_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/report"
)

// windows are the settings of a policy that changes another one.
type windows struct {
	Windows []window `key:"windows" help:"when"`
	Strict  bool     `key:"strict"  help:"how"`
}

type window struct {
	Days    []string `key:"days"`
	Minimum int      `key:"minimum"`
}

// Validate implements kind.Settings.
func (w *windows) Validate() error {
	if w.Strict && len(w.Windows) == 0 {
		return errors.New("windows: is missing")
	}
	return nil
}

// over is a policy that was made over another one.
type over struct {
	policy.Policy

	windows *windows
}

// postcard are the settings of a report.
type postcard struct {
	To    string `key:"to"    help:"who"`
	Stamp int    `key:"stamp" help:"how much"`
}

// Validate implements kind.Settings.
func (p *postcard) Validate() error {
	if p.To == "" {
		return errors.New("to: is missing")
	}
	return nil
}

// moreKinds are the controller's, one that changes another, one that takes orders, and a report with keys.
func moreKinds() config.Kinds {
	kinds := app.Kinds()
	none := func() kind.Settings { return new(kind.None) }
	kinds.Policies = append(kinds.Policies, policy.Kind{
		Name: "calendar", Help: "by the calendar", Over: "fixed",
		Settings: func() kind.Settings { return new(windows) },
		New: func(s kind.Settings, base policy.Policy) (policy.Policy, error) {
			w, ok := s.(*windows)
			if !ok || base == nil {
				return nil, errors.New("wrong settings or no base")
			}
			return over{base, w}, nil
		},
	}, policy.Kind{
		Name: "switchboard", Help: "as told", Settings: none, Traits: policy.Traits{Orders: "switchboard_queue_name"},
		New: func(kind.Settings, policy.Policy) (policy.Policy, error) { return policy.Fixed{}, nil },
	})
	kinds.Sinks = append(kinds.Sinks, report.SinkKind{
		Name: "postcard", Help: "by mail", Settings: func() kind.Settings { return &postcard{Stamp: 1} },
		Open: func(context.Context, kind.Settings, report.World) (report.Sink, error) { return report.All{}, nil },
	})
	return kinds
}

func parseMore(doc string, set ...string) (*config.Config, error) {
	return config.Parse("c.yaml", []byte(doc), moreKinds(), set...)
}

func TestPolicyOverAnother(t *testing.T) {
	t.Parallel()
	doc := sample(t, "policy: calendar, base: job, idle_threshold: 3, windows: [{days: [mon, tue], minimum: 4}]") +
		"defaults: {start_threshold: 7, target_upper_load: 0.5}\n"
	cfg, err := parseMore(doc, "pools.primes.strict=true")
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Pools["primes"]
	if diff := cmp.Diff(&windows{[]window{{[]string{"mon", "tue"}, 4}}, true}, p.Policy.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	want := &policy.JobSettings{StartThreshold: 7, IdleThreshold: 3}
	if diff := cmp.Diff(want, p.Policy.Base.Settings); diff != "" {
		t.Errorf("settings of the base (-want +got):\n%s", diff)
	}
	judge, err := p.Judge()
	made, ok := judge.Policy.(over)
	if _, job := made.Policy.(policy.Job); err != nil || !ok || !job {
		t.Errorf("got %T over %T, %v, want one over a job policy", judge.Policy, made.Policy, err)
	}
}

// TestTraitsOfBoth: what the base needs, the pool has.
func TestTraitsOfBoth(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]policy.Traits{
		"resource": {TakesRequests: true, Drains: true}, "switchboard": {Orders: "switchboard_queue_name"}, "fixed": {},
	} {
		cfg, err := parseMore(sample(t, "policy: calendar, base: "+base))
		if err != nil {
			t.Fatal(err)
		}
		p := cfg.Pools["primes"]
		if got := p.Policy.Traits(); got != want || p.Limits.Drain != want.Drains {
			t.Errorf("%s: got %+v and drain %t, want %+v", base, got, p.Limits.Drain, want)
		}
		_, takes := p.Queue(config.Orders)
		if work, _ := p.Queue(config.Work); takes != (want.Orders != "") ||
			(work.Limits.Deliveries > 5) != want.TakesRequests {
			t.Errorf("%s: got queues %+v", base, p.Queues)
		}
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	for pool, want := range map[string]string{
		"policy: switchboard": "primes-switchboard-demo", "policy: switchboard, switchboard_queue_name: up": "up-demo",
	} {
		cfg, err := parseMore(sample(t, pool))
		if err != nil {
			t.Fatal(err)
		}
		if got := named(cfg.Pools["primes"], config.Orders); got != want {
			t.Errorf("%s: got queue %s, want %s", pool, got, want)
		}
	}
	_, err := parseMore(sample(t, "policy: switchboard, switchboard_queue_name: primes-work"))
	if err == nil || !strings.Contains(err.Error(),
		"pools.primes.switchboard_queue_name: primes-work-demo is already the work queue of primes") {
		t.Errorf("got %v, want the name refused", err)
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		"":                                 "console",
		"report: ''":                       "",
		"report: log":                      "log",
		"report: 'console, log'":           "console log",
		"report: [log, {type: console}]":   "log console",
		"report: {type: postcard, to: me}": "postcard",
	} {
		cfg, err := parseMore(sample(t, "") + doc + "\n")
		if err != nil {
			t.Error(err)
			continue
		}
		var got []string
		for _, one := range cfg.Reports {
			got = append(got, one.Kind.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %s", doc, got, want)
		}
	}
	const two = "[{type: postcard, to: me, stamp: 3}, {type: postcard, to: you}]"
	for name, c := range map[string]struct{ file, set string }{
		"in the file": {two, "log_level=info"}, "on the command line": {"log", "report=" + two},
	} {
		cfg, err := parseMore(sample(t, "")+"report: "+c.file+"\n", c.set)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []kind.Settings{&postcard{"me", 3}, &postcard{"you", 1}} {
			if diff := cmp.Diff(want, cfg.Reports[i].Settings); diff != "" {
				t.Errorf("%s: report %d (-want +got):\n%s", name, i, diff)
			}
		}
	}
	_, err := parseMore(sample(t, ""), "report=[{")
	if err == nil || !strings.Contains(err.Error(), "report: [{ is not YAML") {
		t.Errorf("got %v, want what is no YAML refused", err)
	}
}

func TestComplaintsOfKinds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ pool, rest, want string }{
		"key of another policy": {
			"policy: job, target_upper_load: 0.5", "",
			"c.yaml:5: pools.primes.target_upper_load: is only for pools with policy resource",
		},
		"key of the base alone": {
			"policy: calendar, start_threshold: 3", "",
			"pools.primes.start_threshold: is only for pools with policy job",
		},
		"base of a plain policy": {
			"policy: job, base: fixed", "", "pools.primes.base: is only for pools with policy calendar",
		},
		"queue of orders": {
			"policy: job, switchboard_queue_name: x", "",
			"pools.primes.switchboard_queue_name: is only for pools with policy switchboard",
		},
		"key of a cloud": {
			"policy: job, subnets: [subnet-1]", "", "pools.primes.subnets: is only for pools on a cloud of type ec2",
		},
		"no such base": {
			"policy: calendar, base: psychic", "",
			`pools.primes.base: there is no policy "psychic": there are fixed, job, resource, `,
		},
		"base that changes": {
			"policy: calendar, base: calendar", "",
			`pools.primes.base: there is no policy "calendar": there are fixed, job, resource, `,
		},
		"settings of the policy": {"policy: calendar, strict: true", "", "c.yaml:5: pools.primes.windows: is missing"},
		"settings of the base": {
			"policy: calendar, base: job, idle_threshold: 0", "",
			"c.yaml:5: pools.primes: idle_threshold is 0, the least is 1",
		},
		"not true": {
			"policy: calendar, strict: perhaps", "", "pools.primes.strict: perhaps is not true or false",
		},
		"not a list": {
			"policy: calendar, windows: 5", "",
			"pools.primes.windows: 5 is not a list of mappings",
		},
		"the same report twice": {"", "report: [log, console, log]", "report: log stands here twice"},
		"unknown key in a list": {
			"policy: calendar, windows: [{}, {day: mon}]", "",
			"pools.primes.windows: number 2: day: unknown key, did you mean days?",
		},
		"wrong value in a list": {
			"policy: calendar, windows: [{minimum: many}]", "",
			"pools.primes.windows: number 1: minimum: many is not a whole number",
		},
		"no mapping in a list": {
			"policy: calendar, windows: [mon]", "",
			"pools.primes.windows: number 1 is mon, and not a mapping of keys to values",
		},
		"a word": {"image: [a]", "", "pools.primes.image: [a] is not a word"},
		"queue name": {
			"policy: switchboard, switchboard_queue_name: [a]", "",
			"pools.primes.switchboard_queue_name: [a] is not a word",
		},
		"policy under defaults": {
			"", "defaults: {policy: psychic}", `pools.primes.policy: there is no policy "psychic"`,
		},
		"value under defaults": {
			"policy: job", "defaults: {target_upper_load: x}",
			"c.yaml:6: defaults.target_upper_load: x is not a number",
		},
		"typo under defaults": {
			"", "defaults: {target_uper_load: 1}",
			"defaults.target_uper_load: unknown key, did you mean target_upper_load?",
		},
		"report's key": {
			"", "report: {type: postcard, too: me}", "report: too: unknown key of postcard, did you mean to?",
		},
		"report's value": {
			"", "report: {type: postcard, to: me, stamp: x}", "c.yaml:6: report: stamp: x is not a whole number",
		},
		"report's settings": {"", "report: [postcard]", "c.yaml:6: report.to: is missing"},
		"report without type": {
			"", "report: [{to: me}]", "neither the name of a report nor a mapping with its type, as {type: console}",
		},
		"no such report":         {"", "report: [fax]", `"fax" is not one of console, log, postcard`},
		"on_remove":              {"on_remove: burn", "", `pools.primes.on_remove: "burn" is not drain or leave`},
		"section of the backend": {"", "broker: {lisen: x}", "broker.lisen: unknown key, did you mean listen?"},
		"section that is none":   {"", "broker: 5", "broker: is not a mapping of keys to values"},
		"embedded for workers": {
			"", "worker_backend: embedded",
			`worker_backend: "embedded" is not an address as nats://HOST:4222 or aws://eu-west-1`,
		},
		"what a backend may be": {
			"", "backend: ''",
			`backend: "" is neither embedded nor an address as nats://HOST:4222 or aws://eu-west-1`,
		},
		"port of another backend": {
			"", "backend: nats://h:99999", `"nats://h:99999" is not an address as nats://HOST:4222: host "h:99999"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := sample(t, c.pool)
			if strings.Contains(c.pool, "image:") {
				doc = strings.Replace(doc, "image: worker, ", "", 1)
			}
			_, err := parseMore(doc + c.rest + "\n")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got\n%v\nwant it to say\n%s", err, c.want)
			}
		})
	}
}

// TestDefaultsOfAnyPolicy: pools of all policies share the section.
func TestDefaultsOfAnyPolicy(t *testing.T) {
	t.Parallel()
	doc := sample(t, "") + "  two: {image: worker, cloud: local, policy: resource}\n" +
		"defaults: {policy: job, start_threshold: 5, target_upper_load: 0.5, subnets: [subnet-1]}\n"
	cfg, err := parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[pool.Name]kind.Settings{
		"primes": &policy.JobSettings{StartThreshold: 5, IdleThreshold: 1},
		"two":    cfg.Pools["two"].Policy.Settings,
	} {
		if diff := cmp.Diff(want, cfg.Pools[name].Policy.Settings); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if r, ok := cfg.Pools["two"].Policy.Settings.(*policy.ResourceSettings); !ok || r.UpperLoad != 0.5 ||
		r.LowerLoad != 0.25 {
		t.Errorf("got %+v", cfg.Pools["two"].Policy.Settings)
	}
}

// TestBackendsSectionMayStay: whoever tries another backend need not take out the section of the first.
func TestBackendsSectionMayStay(t *testing.T) {
	t.Parallel()
	cfg, err := parse(sample(t, "") + "backend: nats://h:1\nbroker: {listen: nowhere, store_dir: ''}\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, none := cfg.Backend.Settings.(*kind.None); !none {
		t.Errorf("got settings %+v, want none of nats", cfg.Backend.Settings)
	}
}

func TestForeignKeyOnTheCommandLine(t *testing.T) {
	t.Parallel()
	_, err := parse(sample(t, "policy: job"), "pools.primes.target_upper_load=0.5")
	if err == nil || err.Error() != "--set pools.primes.target_upper_load: is only for pools with policy resource" {
		t.Errorf("got %v, want to hear whose key it is", err)
	}
}

// TestOneUnknownThingIsOneComplaint: where nobody knows which keys are meant, none is called foreign.
func TestOneUnknownThingIsOneComplaint(t *testing.T) {
	t.Parallel()
	for _, pool := range []string{
		"policy: psychic, start_threshold: 3, target_upper_load: 0.5",
		"cloud: moon, subnets: [subnet-1]",
	} {
		doc := sample(t, pool)
		if strings.Contains(pool, "cloud:") {
			doc = strings.Replace(doc, "cloud: local, ", "", 1)
		}
		if _, err := parse(doc); err == nil || strings.Count(err.Error(), "c.yaml:") != 1 {
			t.Errorf("%s: got\n%v\nwant one complaint", pool, err)
		}
	}
}

func TestSettingsAreMerged(t *testing.T) {
	t.Parallel()
	doc := sample(t, "settings: {a: 1}") +
		"  two: {image: worker, cloud: local, settings: {b: 3}}\ndefaults: {settings: {b: 2}}\n"
	cfg, err := parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"a": 1, "b": 2}, cfg.Pools["primes"].Settings); diff != "" {
		t.Errorf("primes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"b": 3}, cfg.Pools["two"].Settings); diff != "" {
		t.Errorf("two (-want +got):\n%s", diff)
	}
}

// TestComplaintsInOrder: whoever corrects a file goes through it once.
func TestComplaintsInOrder(t *testing.T) {
	t.Parallel()
	_, err := parse("log_level: loud\nclouds: {local: {type: moon}}\npools:\n  p:\n    start_limit: -1\n    colour: " +
		"red\n    image: x\n")
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		lines = append(lines, strings.Join(strings.SplitN(line, ":", 4)[:3], ":"))
	}
	want := []string{
		"c.yaml:1: log_level", "c.yaml:2: clouds.local.type", "c.yaml:4: pools.p.cloud", "c.yaml:5: pools.p",
		"c.yaml:6: pools.p.colour",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
