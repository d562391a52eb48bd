package app_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/config"
)

// manualPool is a configuration of one pool that operators scale.
func manualPool(t *testing.T) *config.Config {
	t.Helper()
	dir := t.TempDir()
	cfg, err := config.Parse("test.yaml", []byte(`
broker: {listen: "`+freeAddress(t)+`", store_dir: `+filepath.Join(dir, "js")+`}
clouds: {local: {bin_dir: /bin, state_dir: `+dir+`/instances, audit_instance_interval: 1s}}
pools: {primes: {policy: manual, image: ls, cloud: local, maximum_number_of_instances: 0}}
`), app.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestScale: an order reaches the controller, which says what its limits make of it.
func TestScale(t *testing.T) {
	t.Parallel()
	cfg := manualPool(t)
	r := start(t, cfg)
	r.out.await(t, passed)
	if err := app.Scale(t.Context(), cfg, "primes", 3, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	r.log.await(t, "an operator ordered 3 (maximum 0 drops 3 of the order)")
}

// TestScaleWithoutAController says what is missing, within the time that it has.
func TestScaleWithoutAController(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := app.Scale(ctx, manualPool(t), "primes", 1, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "open backend nats://127.0.0.1:") {
		t.Errorf("got %v, want it to name the broker", err)
	}
}
