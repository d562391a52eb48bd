package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudmaster/internal/pool"
)

func TestPrices(t *testing.T) {
	t.Parallel()
	micro := pool.Instance{Type: "t3.micro", Zone: "eu-west-1a"}
	doc := sample(t, "policy: job")
	cfg, err := parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Book().Of(&micro); !got.Known || got.USD != 0.0114 {
		t.Errorf("the table that ships: got %+v, want $0.0114", got)
	}
	if got := cfg.Book().Of(&pool.Instance{Cloud: "local"}); got.Known {
		t.Errorf("a process: got %+v, want its price unknown", got)
	}
	priced := strings.Replace(doc, "{bin_dir", "{price_per_hour: 0.5, bin_dir", 1)
	if cfg, err = parse(priced); err != nil {
		t.Fatal(err)
	}
	if got := cfg.Book().Of(&pool.Instance{Cloud: "local"}); !got.Known || got.USD != 0.5 {
		t.Errorf("a process with a price: got %+v, want $0.5", got)
	}
	own := filepath.Join(t.TempDir(), "own.csv")
	for text, want := range map[string]string{
		"# date: 2026-11-25\n# source: x\nplace,type,market,usd_per_hour\nhere,t3.micro,on-demand,1\n": "",
		"here,t3.micro": "c.yaml:6: prices: " + own + ":1: the first line is",
	} {
		if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := parse(doc + "prices: " + own + "\n")
		switch {
		case want == "" && err == nil:
			if got := cfg.Book().Of(&micro); got.Known {
				t.Errorf("got %+v, want nothing left of the table that ships", got)
			}
		case want == "" || err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("%q: got %v, want %q in it", text, err, want)
		}
	}
	for add, want := range map[string]string{
		"prices: /nowhere/prices.csv\n": "c.yaml:6: prices: read prices: open /nowhere/prices.csv: no such file " +
			"or directory; correct the path",
		"prices: [a]\n": "c.yaml:6: prices: [a] is not a word",
	} {
		if _, err := parse(doc + add); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", add, err, want)
		}
	}
	wrong := strings.Replace(doc, "{bin_dir", "{price_per_hour: -1, bin_dir", 1)
	if _, err := parse(wrong); err == nil ||
		!strings.Contains(err.Error(), "clouds.local.price_per_hour: -1 is not a price in US dollars") {
		t.Errorf("got %v, want a complaint about the negative price", err)
	}
}
