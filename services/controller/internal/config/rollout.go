package config

import (
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/pool"
)

const keyRollout = "rollout"

// defaultRollout replaces outdated instances one by one, each after its successor has reported.
func defaultRollout() pool.Rollout { return pool.Rollout{MaxSurge: 1} }

// rolloutSaid is what stands in rollout. It has a type of its own for the sake of the message when it is no mapping.
type rolloutSaid map[string]any

// rolloutKeys are the keys within rollout.
var rolloutKeys = []string{"max_unavailable", "max_surge", "paused"}

// readRollout reads how outdated instances are replaced.
func (r *reader) readRollout(path []string, said rolloutSaid) pool.Rollout {
	here := append(slices.Clone(path), keyRollout)
	out := defaultRollout()
	number := func(key string, to *int) {
		n, ok := said[key].(int)
		if !ok {
			r.complain(here, "%s: %v is not a whole number", key, said[key])
			return // as by default, so that nobody complains of it a second time
		}
		*to = n
	}
	for _, key := range slices.Sorted(mapKeys(said)) {
		switch key {
		case "max_unavailable":
			number(key, &out.MaxUnavailable)
		case "max_surge":
			number(key, &out.MaxSurge)
		case "paused":
			var ok bool
			if out.Paused, ok = said[key].(bool); !ok {
				r.complain(here, "%s: %v is not true or false", key, said[key])
			}
		default:
			r.complain(here, "%s: unknown key%s", key, suggestion(key, rolloutKeys))
		}
	}
	return out
}

// validateRollout complains about what can be read and makes no sense.
func (r *reader) validateRollout(p *Pool) {
	here := []string{keyPools, string(p.Name)}
	r.complainEach(here, p.Rollout.Validate())
	if life := p.MaximumLifetime; life != 0 && life < leastLifetime {
		r.complain(append(here, "maximum_lifetime"), "%s is less than %s, which leaves no time to be of use; 0: none",
			life, leastLifetime)
	}
	if life := p.MaximumLifetime; life >= leastLifetime && life <= p.Limits.MinimumLifetime {
		r.complain(append(here, "maximum_lifetime"), "%s is not more than minimum_lifetime, %s: raise it, or lower "+
			"minimum_lifetime", life, p.Limits.MinimumLifetime)
	}
}

// leastLifetime keeps a mistyped unit from replacing instances all the time.
const leastLifetime = time.Minute

// rolloutText is for the revision of a pool.
func (p *Pool) rolloutText() string { return fmt.Sprintf("%+v %s", p.Rollout, p.MaximumLifetime) }
