package app_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/config"
)

// TestReload adds and removes a pool while another one runs on. A configuration that is wrong, or that needs
// a restart, changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parse := func(listen, pools string) (*config.Config, error) {
		return config.Parse("test.yaml", []byte(`broker: {listen: "`+listen+`", store_dir: `+filepath.Join(dir, "js")+`}
clouds: {local: {bin_dir: /bin, state_dir: `+dir+`/instances, audit_instance_interval: 1s}}
pools: {`+pools+`}
`), app.Kinds())
	}
	const one = "primes: {policy: job, image: ls, cloud: local}"
	cfg, err := parse("127.0.0.1:0", one)
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan func() (*config.Config, error), 1)
	reload := make(chan struct{}, 1)
	out, log := newOutput(), newOutput()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		load := func() (*config.Config, error) { return (<-next)() }
		ended <- app.RunConfig(ctx, cfg, load, reload, out, slog.New(slog.NewTextHandler(log, nil)))
	}()
	out.await(t, passed)
	for _, c := range []struct {
		load func() (*config.Config, error)
		want string
	}{
		{
			func() (*config.Config, error) { return nil, errors.New("line 7 is wrong") },
			"is refused; what ran goes on unchanged\" error=\"line 7 is wrong",
		},
		{
			func() (*config.Config, error) { return parse("127.0.0.1:1", one) },
			"broker has changed, which needs a restart",
		},
		{
			func() (*config.Config, error) { return parse("127.0.0.1:0", one+", more: {image: ls, cloud: local}") },
			"added=[more]",
		},
		{func() (*config.Config, error) {
			return parse("127.0.0.1:0",
				"primes: {policy: job, image: ls, cloud: local, maximum_number_of_instances: 9}")
		}, "changed=[primes] removed=[more]"},
		{
			func() (*config.Config, error) {
				return parse("127.0.0.1:0", "primes: {policy: job, image: ls, cloud: local, status_queue_name: other}")
			},
			"its status queue cannot change from primes-status to other while it runs",
		},
	} {
		next <- c.load
		reload <- struct{}{}
		log.await(t, c.want)
		if c.want == "added=[more]" {
			out.await(t, "more Instances: 0 Queue Depth: 0")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want no error", err)
	}
}
