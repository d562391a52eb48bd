package app_test

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cloudmaster/internal/daemon"
	"cloudmaster/services/allocator/internal/app"
)

func defaults() app.Settings {
	return app.Settings{
		Listen: "127.0.0.1:20809", OpsListen: "127.0.0.1:20811", Backend: "nats://127.0.0.1:4222",
		Refresh: time.Second, Request: time.Minute, Forget: 3 * time.Minute, PeerConnections: 100, PeerRequests: 6000,
		Pools: []app.PoolSettings{{Name: "fib", Queue: "fib-work", Hints: "cloudmaster-hints", ClientLoad: 0.1}},
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "allocator.yaml")
	text := "pool: [fib, primes=jobs]\nclient_load: 0.5\nrefresh_interval: 2s\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		args   string
		change func(s *app.Settings)
	}{
		"defaults": {"--pool fib", func(*app.Settings) {}},
		"deployment": {"--pool fib --deployment demo", func(s *app.Settings) {
			s.Deployment, s.Pools[0].Queue, s.Pools[0].Hints = "demo", "fib-work-demo", "cloudmaster-demo-hints"
		}},
		"queue named": {
			"--pool fib=q --deployment demo",
			func(s *app.Settings) { s.Deployment, s.Pools[0].Queue, s.Pools[0].Hints = "demo", "q", "" },
		},
		"queue named as ours": {
			"--pool fib=web-work-x",
			func(s *app.Settings) { s.Pools[0].Queue, s.Pools[0].Hints = "web-work-x", "cloudmaster-x-hints" },
		},
		"addresses": {
			"--pool fib --listen :80 --ops-listen= --backend nats://b:1",
			func(s *app.Settings) { s.Listen, s.OpsListen, s.Backend = ":80", "", "nats://b:1" },
		},
		"guards": {
			"--pool fib --token-file t --tls-certificate c --tls-key k --peer-connections 0 --peer-requests 7",
			func(s *app.Settings) {
				s.TokenFile, s.Certificate, s.Key, s.PeerConnections, s.PeerRequests = "t", "c", "k", 0, 7
			},
		},
		"times": {
			"--pool fib --refresh-interval 3s --request-interval 4s --forget-after 5s",
			func(s *app.Settings) { s.Refresh, s.Request, s.Forget = 3*time.Second, 4*time.Second, 5*time.Second },
		},
		"load for all": {"--pool fib --client-load 0.2", func(s *app.Settings) { s.Pools[0].ClientLoad = 0.2 }},
		"load for one pool": {"--pool fib,web --client-load fib=0.3,0.2", func(s *app.Settings) {
			s.Pools[0].ClientLoad = 0.3
			s.Pools = append(s.Pools, app.PoolSettings{
				Name: "web", Queue: "web-work", Hints: "cloudmaster-hints", ClientLoad: 0.2,
			})
		}},
		"proxies": {"--pool fib --trusted-proxy 10.0.0.0/8 --trusted-proxy fd00::/8", func(s *app.Settings) {
			s.Proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
		}},
		"file": {"--config " + file, func(s *app.Settings) {
			s.Refresh = 2 * time.Second
			s.Pools = []app.PoolSettings{
				{Name: "fib", Queue: "fib-work", Hints: "cloudmaster-hints", ClientLoad: 0.5},
				{Name: "primes", Queue: "jobs", ClientLoad: 0.5},
			}
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, log, err := app.Parse(strings.Fields(c.args), io.Discard, io.Discard)
			if err != nil || log == nil {
				t.Fatalf("got log %v, error %v", log, err)
			}
			want := defaults()
			c.change(&want)
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.args, diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args string
		want []string
	}{
		"no pool":         {"", []string{"pool: name at least one"}},
		"empty pool":      {"--pool =q", []string{`pool "=q": the pool's name is missing`}},
		"no queue":        {"--pool fib=", []string{`pool "fib=": the queue's name is missing`}},
		"pool twice":      {"--pool fib --pool fib=q", []string{`pool "fib": it is given twice`}},
		"slash":           {"--pool a/b", []string{"has no slash"}},
		"bad character":   {"--pool f+b", []string{"invalid key"}},
		"load of no pool": {"--pool fib --client-load fab=1", []string{`client-load "fab=1": there is no pool "fab"`}},
		"load is no number": {
			"--pool fib --client-load much", []string{`client-load "much": a load is a number above 0`},
		},
		"load 0":        {"--pool fib --client-load 0", []string{"above 0"}},
		"load infinite": {"--pool fib --client-load Inf", []string{"above 0"}},
		"proxy": {
			"--pool fib --trusted-proxy 10.0.0.1", []string{`trusted-proxy "10.0.0.1": it is not like 10.0.0.0/8`},
		},
		"key alone":         {"--pool fib --tls-key k", []string{"tls-certificate: is missing"}},
		"certificate alone": {"--pool fib --tls-certificate c", []string{"tls-key: is missing"}},
		"below 0": {
			"--pool fib --peer-requests -1 --peer-connections -2",
			[]string{"peer-requests: -1 is below 0: write", "peer-connections: -2 is below 0: write 0 for no bound"},
		},
		"addresses": {
			"--pool fib --listen x --ops-listen 127.0.0.1:99999 --peer-requests -1", []string{
				`listen: "x" is not HOST:PORT, as 127.0.0.1:20809`,
				`ops-listen: "127.0.0.1:99999" is not HOST:PORT, as 127.0.0.1:20811`, "peer-requests: -1",
			},
		},
		"no address": {"--pool fib --listen=", []string{`listen: "" is not HOST:PORT`}},
		"flag":       {"--pol fib", []string{"--pol"}},
		"all at once": {
			"--refresh-interval 0s --request-interval -1s --forget-after 0s --client-load -1",
			[]string{"pool: name", "client-load", "refresh-interval: 0s", "request-interval: -1s", "forget-after: 0s"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := app.Parse(strings.Fields(c.args), io.Discard, io.Discard)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestParseHelp(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	_, _, err := app.Parse([]string{"--help"}, &out, io.Discard)
	if !errors.Is(err, daemon.ErrDone) || !strings.Contains(out.String(), "--refresh-interval") {
		t.Errorf("got %v and %q, want ErrDone and the flags", err, out.String())
	}
}
