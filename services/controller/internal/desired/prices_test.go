package desired_test

import (
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/price"
)

// TestPricesOfARunningPoolChange: the records have the cost by the newest prices, and what runs is not touched.
func TestPricesOfARunningPoolChange(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		p := want("a", 2, 2)
		w.apply(c, p)
		w.run(tasks, time.Minute)
		before := w.running("a")
		if got := w.passes[len(w.passes)-1].Cost; got.Instances != 2 || got.Unknown != 2 || got.USD != 0 {
			t.Errorf("without prices: got %+v, want two of which nothing is known", got)
		}
		for _, usd := range []float64{0.25, 2} {
			p.Loop.Prices = &price.Book{Flat: map[pool.CloudName]float64{p.Cloud: usd}}
			p.Revision += "again"
			w.apply(c, p)
			w.run(tasks, 10*time.Second)
			if got := w.passes[len(w.passes)-1].Cost; got.USD != 2*usd || got.Unknown != 0 {
				t.Errorf("got %+v, want two for $%g", got, usd)
			}
		}
		if got := w.running("a"); len(got) != 2 || !same(got, before) {
			t.Errorf("got %v, want %v untouched", got, before)
		}
	})
}
