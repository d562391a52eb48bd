package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
)

// TestPricesAreReadAgain: pools count as changed when the table has changed, and only then.
func TestPricesAreReadAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "prices.csv")
	write := func(row string) {
		text := "# date: 2026-11-25\n# source: a test\nplace,type,market,usd_per_hour\n" + row + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func() (*config.Config, error) {
		return config.Parse("c.yaml", []byte(`prices: `+file+`
clouds: {local: {bin_dir: /bin, price_per_hour: 0.5}}
pools: {jobs: {image: ls, cloud: local}}
`), Kinds())
	}
	write("here,small,on-demand,1")
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	o := &opened{cfg: cfg, Parts: Parts{Log: slog.New(slog.DiscardHandler)}}
	o.current.Store(cfg)
	first, err := o.first(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	prices := first[0].Loop.Prices
	if got := prices.Of(&pool.Instance{Cloud: "local"}); !got.Known || got.USD != 0.5 {
		t.Errorf("got %+v, want the cloud's price", got)
	}
	for _, c := range []struct {
		row     string
		usd     float64
		changed bool
	}{{"here,small,on-demand,1", 1, false}, {"here,small,on-demand,3", 3, true}} {
		write(c.row)
		again, _, err := o.next(t.Context(), load)
		if err != nil {
			t.Fatal(err)
		}
		if got := again[0].Revision != first[0].Revision; got != c.changed {
			t.Errorf("%s: got changed %t, want %t", c.row, got, c.changed)
		}
		got := again[0].Loop.Prices.Of(&pool.Instance{Cloud: "other", Type: "small", Zone: "herea"})
		if got.USD != c.usd {
			t.Errorf("%s: got %+v, want $%g", c.row, got, c.usd)
		}
	}
	write("here,small,1")
	if _, _, err := o.next(t.Context(), load); err == nil {
		t.Error("a wrong table was taken")
	}
}
