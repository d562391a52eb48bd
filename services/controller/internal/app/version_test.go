package app

import (
	"testing"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
)

// TestVersion: what an instance is, is told or is asked for counts, and what only says how many there are does not.
func TestVersion(t *testing.T) {
	t.Parallel()
	version := func(keys string) string {
		t.Helper()
		cfg, err := config.Parse("c.yaml", []byte("backend: aws://eu-west-1\nclouds: {aws: {type: ec2}}\n"+
			"pools:\n  jobs: {image: x, cloud: aws"+keys+"}\n"), Kinds())
		if err != nil {
			t.Fatal(err)
		}
		o, p := &opened{cfg: cfg, address: "aws://eu-west-1"}, cfg.Pools["jobs"]
		out, err := o.version(&p, o.userData(&p, o.address))
		if err != nil || !pool.Versioned(out) {
			t.Fatalf("got version %q, %v", out, err)
		}
		return out
	}
	plain := version("")
	for keys, want := range map[string]pool.Drift{
		"": "", ", maximum_number_of_instances: 9": "", ", policy: job": "", ", rollout: {paused: true}": "",
		", instance_types: [m5.large]": "", ", maximum_lifetime: 24h": "", ", market: spot": "",
		", settings: {n: 1}": pool.OtherSettings, ", status_interval: 9s": pool.OtherSettings,
		", volume_size: 30": pool.OtherSettings, ", tags: {a: b}": pool.OtherSettings,
	} {
		if got := pool.Drifted(plain, version(keys)); got != want {
			t.Errorf("%q: got %q, want %q", keys, got, want)
		}
	}
}
