package price_test

import (
	"math"
	"slices"
	"testing"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/price"
)

const rows = "eu-west-1,t3.micro,on-demand,0.01\n" +
	"eu-west-1,c7g.large,on-demand,0.08\neu-west-1,c7g.large,spot,0.03\n" +
	"rack,t3.micro,on-demand,0.002\n"

func TestOf(t *testing.T) {
	t.Parallel()
	book := &price.Book{Table: parse(t, rows), Flat: map[pool.CloudName]float64{"local": 0.5, "free": 0}}
	in := func(kind, zone string) pool.Instance { return pool.Instance{Type: kind, Zone: zone} }
	spot := func(in pool.Instance) pool.Instance { in.Spot = true; return in }
	on := func(cloud pool.CloudName, in pool.Instance) pool.Instance { in.Cloud = cloud; return in }
	known := func(usd float64) price.Rate { return price.Rate{Known: true, USD: usd} }
	for name, c := range map[string]struct {
		in   pool.Instance
		want price.Rate
	}{
		"on demand":     {in("t3.micro", "eu-west-1b"), known(0.01)},
		"spot":          {spot(in("c7g.large", "eu-west-1b")), known(0.03)},
		"spot, no row":  {spot(in("t3.micro", "eu-west-1b")), price.Rate{Known: true, USD: 0.01, AtMost: true}},
		"other region":  {in("t3.micro", "eu-west-2b"), price.Rate{}},
		"local zone":    {in("t3.micro", "eu-west-1-lax-1a"), price.Rate{}},
		"zone unknown":  {in("t3.micro", ""), price.Rate{}},
		"type unknown":  {in("", "eu-west-1b"), price.Rate{}},
		"cloud's price": {on("rack", in("t3.micro", "eu-west-1b")), known(0.002)},
		"flat":          {on("local", in("", "")), known(0.5)},
		"costs nothing": {on("free", in("", "")), known(0)},
	} {
		if got := book.Of(&c.in); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
	if got := (*price.Book)(nil).Of(&pool.Instance{Type: "t3.micro"}); got.Known {
		t.Errorf("no book: got %+v, want it unknown", got)
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	book := &price.Book{Table: parse(t, rows)}
	in := func(kind string, spot bool, state pool.State) pool.Instance {
		return pool.Instance{Type: kind, Zone: "eu-west-1a", Spot: spot, State: state}
	}
	micro, large := in("t3.micro", false, pool.Active), in("c7g.large", false, pool.ShutDown)
	spot, rare := in("t3.micro", true, pool.Active), in("x9.huge", false, pool.Active)
	last := in("t3.micro", false, pool.Stopping)
	for name, c := range map[string]struct {
		list []pool.Instance
		usd  float64
		want string // empty: nothing is told
	}{
		"none":  {nil, 0, ""},
		"typed": {[]pool.Instance{micro, large, last}, 0.10, "Cost: $0.1000/h"}, // all of them are billed
		"spot": {
			[]pool.Instance{micro, spot},
			0.02,
			"Cost: at most $0.0200/h; 1 of 2 are spot, counted at the on-demand price",
		},
		"lacking": {
			[]pool.Instance{micro, rare, rare},
			0.01,
			"Cost: at least $0.0100/h; 2 of 3 have no price: eu-west-1 x9.huge",
		},
		"both": {
			[]pool.Instance{spot, rare},
			0.01,
			"Cost: about $0.0100/h; 1 of 2 are spot, counted at the on-demand price; " +
				"1 of 2 have no price: eu-west-1 x9.huge",
		},
		"unknown":  {[]pool.Instance{rare}, 0, "Cost: unknown; no price for eu-west-1 x9.huge"},
		"untyped":  {make([]pool.Instance, 3), 0, ""},
		"a dollar": {slices.Repeat([]pool.Instance{large}, 20), 1.6, "Cost: $1.60/h"},
	} {
		got := book.Cost(c.list)
		if math.Abs(got.USD-c.usd) > 1e-9 || got.Instances != len(c.list) {
			t.Errorf("%s: got %+v, want $%g for %d", name, got, c.usd, len(c.list))
		}
		if got.Silent() != (c.want == "") || c.want != "" && got.String() != c.want {
			t.Errorf("%s: got %q (silent %t), want %q", name, got.String(), got.Silent(), c.want)
		}
	}
}
