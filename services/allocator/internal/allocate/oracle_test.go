package allocate_test

import (
	"math"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
)

// mostClients is how many clients of a server the oracle reckons with; it never sends one where there may be so many.
const mostClients = 4 * farmPlaces

// oracle chooses as well as one can who knows each assignment at once, and for how long clients stay on average, but
// sees who has left only in the next set: it computes for each server the chance that it is full, from the chances of
// all numbers of clients that it may have, and takes the server where that is least.
type oracle struct {
	stay    time.Duration
	servers [farmServers]chances
	as      time.Time // of which the chances are
}

// chances are those of each number of clients.
type chances struct {
	of   [mostClients + 1]float64
	most int // the highest number that is possible
}

func newOracle(stay time.Duration) *oracle { return &oracle{stay: stay} }

func (o *oracle) chooser() chooser { return chooser{update: o.update, choose: o.choose} }

func (o *oracle) update(s activeset.Set, now time.Time) {
	o.as = now
	for i, in := range s.Instances {
		clients := int(math.Round(in.Load * farmPlaces))
		o.servers[i] = chances{most: clients}
		o.servers[i].of[clients] = 1
	}
}

func (o *oracle) choose(now time.Time) pool.InstanceID {
	stays := math.Exp(-now.Sub(o.as).Seconds() / o.stay.Seconds())
	o.as = now
	best, least := 0, math.Inf(1)
	for i := range o.servers {
		c := &o.servers[i]
		c.thin(stays)
		if full := c.full(); full < least {
			best, least = i, full
		}
	}
	o.servers[best].add()
	return serverID(best)
}

// thin lets each client stay with this chance.
func (c *chances) thin(stays float64) {
	if stays == 1 {
		return
	}
	var after chances
	for n := 0; n <= c.most; n++ {
		p := c.of[n] * math.Pow(1-stays, float64(n)) // all n leave
		for left := 0; left <= n; left++ {
			after.of[left] += p
			p *= stays / (1 - stays) * float64(n-left) / float64(left+1)
		}
	}
	after.most = c.most
	*c = after
}

// full is the chance that there is no place.
func (c *chances) full() (chance float64) {
	for n := farmPlaces; n <= c.most; n++ {
		chance += c.of[n]
	}
	return chance
}

// add counts one more client.
func (c *chances) add() {
	copy(c.of[1:], c.of[:mostClients])
	c.of[0] = 0
	c.most = min(c.most+1, mostClients)
}
