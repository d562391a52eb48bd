package config_test

import (
	"strings"
	"testing"
)

// TestWarm: a pool has its own number of stopped instances, or that of the defaults.
func TestWarm(t *testing.T) {
	t.Parallel()
	doc := strings.Replace(onAWS, "key_name: k", "key_name: k, warm: {stopped: 2}", 1)
	cfg, err := parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := cfg.Pools["a"].Warm, cfg.Pools["b"].Warm; a != 0 || b != 2 {
		t.Errorf("got %d and %d, want 0 and 2", a, b)
	}
	if cfg, err = parse(strings.Replace(onAWS, "market: spot", "market: on-demand", 1) +
		"defaults: {warm: {stopped: 3}}\n"); err != nil || cfg.Pools["c"].Warm != 3 {
		t.Errorf("got %v, want the defaults' 3", err)
	}
}

// TestWrongWarm: each complaint names the key, the reason and the next step.
func TestWrongWarm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new, want string }{
		"negative": {"key_name: k", "warm: {stopped: -1}", "c.yaml:9: pools.b.warm: stopped is -1: write 0 or more"},
		"other key": {
			"key_name: k", "warm: {started: 1}",
			"pools.b.warm: started: unknown key: how many instances are kept stopped",
		},
		"a number": {"key_name: k", "warm: 2", "b.warm: 2 is not a mapping of keys to numbers, as {stopped: 2}"},
		"a fraction": {
			"key_name: k", "warm: {stopped: 1.5}", "pools.b.warm: {stopped: 1.5} is not a mapping of keys to numbers",
		},
		"spot": {
			"{image: x, cloud: aws}", "{image: x, cloud: aws, warm: {stopped: 1}}",
			"pools.a.warm: EC2 cannot stop spot instances that a launch has asked for: leave warm out",
		},
		"a share of spot": {
			"market: on-demand", "market: {spot: 20%}, warm: {stopped: 1}",
			"pools.b.warm: EC2 cannot stop spot instances",
		},
		"processes": {
			`c: {image: x, cloud: far}`, "c: {image: x, cloud: near, warm: {stopped: 1}}",
			"pools.c.warm: a cloud of type process cannot stop instances and start them again: leave warm out, or " +
				"run the pool on a cloud of type ec2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := strings.Replace(onAWS, "clouds:\n", "clouds:\n  near: {type: process}\n", 1)
			if !strings.Contains(c.new, "near") {
				doc = onAWS
			}
			doc = strings.Replace(doc, c.old, c.new, 1)
			if _, err := parse(doc); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got\n%v\nwant it to say\n%s", err, c.want)
			}
		})
	}
}
