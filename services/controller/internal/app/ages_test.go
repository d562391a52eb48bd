package app

import (
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/config"
)

// TestTheEmbeddedBrokerKnowsAges: a controller that runs its own broker is told how old its messages are.
func TestTheEmbeddedBrokerKnowsAges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg, err := config.Parse("c.yaml", []byte(`broker: {listen: "127.0.0.1:0", store_dir: `+filepath.Join(dir, "js")+`}
clouds: {local: {bin_dir: /bin, state_dir: `+dir+`}}
pools: {jobs: {image: ls, cloud: local}}
`), Kinds())
	if err != nil {
		t.Fatal(err)
	}
	o, err := open(t.Context(), cfg, io.Discard, slog.New(slog.DiscardHandler))
	defer func() {
		if err := o.close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.OpenQueue(t.Context(), "jobs", queue.Limits{}); err != nil {
		t.Fatal(err)
	}
	if o.Ages == nil {
		t.Fatal("nobody knows how old messages are")
	}
	if ages, err := o.Ages.Ages(t.Context(), "jobs", "none"); err != nil || !ages["jobs"].Known || len(ages) != 1 {
		t.Errorf("got %+v, %v, want the age of jobs", ages, err)
	}
}
