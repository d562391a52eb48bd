package ec2cloud

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// part is a part of a launch that is asked for by itself.
type part struct {
	name    string // tells the parts of a launch apart; empty if there is one only
	count   int
	choices []choice // in the order in which they are tried
}

// plan divides a launch into parts: by market, so that the pool keeps its share of spot instances, and by subnet, so
// that it is level. Mostly there is one part.
func (c *Cloud) plan(spec *cloud.Spec, l *Launch) []part {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, found := c.plans.get(spec.Token)
	if found && total(old) == spec.Count {
		return old
	}
	here := c.seen.of(pool.Name(spec.Tags[cloud.TagPool]), c.now())
	spot := l.spots(spec.Count, here)
	have := make(map[string]int) // instances by subnet, with those that are planned
	for i := range here {
		have[here[i].subnet]++
	}
	parts := slices.Concat(l.level(spot, true, have), l.level(spec.Count-spot, false, have))
	if len(parts) > 1 {
		for i := range parts {
			parts[i].name = "-s" + strconv.Itoa(i)
		}
	}
	if !found { // else it is not the same launch, which EC2 will say
		c.plans.put(spec.Token, parts)
	}
	return parts
}

func total(parts []part) (n int) {
	for i := range parts {
		n += parts[i].count
	}
	return n
}

// spots is how many of the instances that a launch is for are to be spot instances.
func (l *Launch) spots(count int, here []sight) int {
	spot := 0
	for i := range here {
		if here[i].spot {
			spot++
		}
	}
	want := int(math.Round(float64(l.Spot) * float64(len(here)+count) / 100))
	return min(max(0, want-spot), count)
}

// level divides so many instances of one market over the subnets if they are to be balanced. Each part tries its own
// subnet first, and then those with the fewest instances.
func (l *Launch) level(count int, spot bool, have map[string]int) []part {
	all := l.choices(spot)
	if count == 0 {
		return nil
	}
	if !l.Balanced {
		return []part{{count: count, choices: all}}
	}
	shares := make(map[string]int)
	for range count {
		s := slices.MinFunc(l.Subnets, func(a, b string) int { return have[a] - have[b] })
		have[s]++
		shares[s]++
	}
	var out []part
	for _, s := range l.Subnets {
		if shares[s] > 0 {
			out = append(out, part{count: shares[s], choices: nearest(all, s, have)})
		}
	}
	return out
}

// nearest sorts choices: spot first, then those in a subnet, then the subnets with the fewest instances; within a
// subnet the order stays.
func nearest(all []choice, subnet string, have map[string]int) []choice {
	rank := func(c choice) int {
		if c.subnet == subnet {
			return -1
		}
		return have[c.subnet]
	}
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b choice) int {
		if a.spot != b.spot {
			return cmp.Compare(yes(b.spot), yes(a.spot))
		}
		return cmp.Compare(rank(a), rank(b))
	})
	return out
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}
