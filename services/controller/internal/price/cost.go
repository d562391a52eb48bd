package price

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cloudmaster/internal/pool"
)

// Book says what each instance of a deployment costs. It does not change. A nil Book knows no price.
type Book struct {
	Table *Table // nil: no type has a price
	// Flat are the prices in USD for an hour of the instances of clouds that have one price for all.
	Flat map[pool.CloudName]float64
}

// Revision is the same for books with equal tables, and only for them.
func (b *Book) Revision() string {
	if b == nil || b.Table == nil {
		return ""
	}
	return b.Table.Digest
}

// Rate is what one instance costs in an hour. The zero value is unknown.
type Rate struct {
	Known bool
	USD   float64
	// AtMost: it is a spot instance, and the table has only the on-demand price of its type. Spot instances are there
	// to be cheaper, but EC2's reference promises no bound for launches that name no maximum price, as ours.
	AtMost bool
}

// Of returns what an instance costs.
func (b *Book) Of(in *pool.Instance) Rate {
	if b == nil {
		return Rate{}
	}
	for _, place := range []string{string(in.Cloud), region(in.Zone)} {
		if rate := b.Table.of(place, in); rate.Known {
			return rate
		}
	}
	usd, flat := b.Flat[in.Cloud]
	return Rate{Known: flat, USD: usd}
}

func (t *Table) of(place string, in *pool.Instance) Rate {
	if t == nil || place == "" || in.Type == "" {
		return Rate{}
	}
	if in.Spot {
		if r, ok := t.rows[offer{place, in.Type, Spot}]; ok {
			return Rate{Known: true, USD: r.usd}
		}
	}
	r, ok := t.rows[offer{place, in.Type, OnDemand}]
	return Rate{Known: ok, USD: r.usd, AtMost: ok && in.Spot}
}

// region returns the region of a zone of AWS: its name without the letter at its end. Local zones, as us-west-2-lax-1a,
// have prices of their own, and so does the "region" that is left of their names.
func region(zone string) string {
	if n := len(zone); n > 1 && zone[n-1] >= 'a' && zone[n-1] <= 'z' {
		return zone[:n-1]
	}
	return zone
}

// Cost is what the instances of a pool cost together. Those that drain and those that are about to end count, because
// they run and are billed until they are gone. The price is that of machines alone: volumes, addresses, traffic,
// credits of burstable types and taxes come on top.
type Cost struct {
	USD       float64  `json:"usd_per_hour"` // of those that have a price
	Instances int      `json:"instances"`
	AtMost    int      `json:"at_most,omitempty"` // of them, spot instances that count with their on-demand price
	Unknown   int      `json:"unknown,omitempty"` // of them, those without a price
	Missing   []string `json:"missing,omitempty"` // what has no price, as "eu-north-1 t3.micro", each once, sorted
}

// Cost adds up what instances cost.
func (b *Book) Cost(list []pool.Instance) Cost {
	c := Cost{Instances: len(list)}
	missing := make(map[string]bool)
	for i := range list {
		in := &list[i]
		rate := b.Of(in)
		c.USD += rate.USD
		switch {
		case rate.AtMost:
			c.AtMost++
		case !rate.Known:
			c.Unknown++
			if in.Type != "" {
				missing[cmp.Or(region(in.Zone), string(in.Cloud))+" "+in.Type] = true
			}
		}
	}
	c.Missing = slices.Sorted(maps.Keys(missing))
	return c
}

// Silent reports whether there is nothing to tell: no instance, or instances of a cloud that has no prices and no types
// by which a table could give them any.
func (c *Cost) Silent() bool { return c.Unknown == c.Instances && len(c.Missing) == 0 }

// String says for people what is known.
func (c *Cost) String() string {
	if c.Unknown == c.Instances {
		return "Cost: unknown; no price for " + strings.Join(c.Missing, ", ")
	}
	bound := ""
	switch {
	case c.Unknown > 0 && c.AtMost > 0:
		bound = "about "
	case c.Unknown > 0:
		bound = "at least "
	case c.AtMost > 0:
		bound = "at most "
	}
	text := fmt.Sprintf("Cost: %s$%s/h", bound, amount(c.USD))
	if c.AtMost > 0 {
		text += fmt.Sprintf("; %d of %d are spot, counted at the on-demand price", c.AtMost, c.Instances)
	}
	if c.Unknown > 0 {
		text += fmt.Sprintf("; %d of %d have no price", c.Unknown, c.Instances)
		if len(c.Missing) > 0 {
			text += ": " + strings.Join(c.Missing, ", ")
		}
	}
	return text
}

// amount writes small amounts with as many digits as one instance of the smallest types needs.
func amount(usd float64) string {
	if usd < 1 {
		return fmt.Sprintf("%.4f", usd)
	}
	return fmt.Sprintf("%.2f", usd)
}
