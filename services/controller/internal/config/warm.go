package config

import (
	"maps"
	"slices"
	"strings"
)

const (
	keyWarm    = "warm"
	keyStopped = "stopped"
)

// readWarm returns how many stopped instances a pool keeps.
func (r *reader) readWarm(said map[string]int, path []string) int {
	at := append(slices.Clone(path), keyWarm)
	for _, key := range slices.Sorted(maps.Keys(said)) {
		if key != keyStopped {
			r.complain(at, "%s: unknown key: how many instances are kept stopped is {%s: 2}", key, keyStopped)
		}
	}
	if n := said[keyStopped]; n < 0 {
		r.complain(at, "%s is %d: write 0 or more", keyStopped, n)
		return 0
	}
	return said[keyStopped]
}

// validateWarm complains about a warm pool where instances cannot be stopped.
func (r *reader) validateWarm(p *Pool, where *Cloud) {
	if p.Warm == 0 || where.Kind.Stops || where.Kind.Name == "" {
		return
	}
	var can []string
	for i := range r.kinds.Clouds {
		if r.kinds.Clouds[i].Stops {
			can = append(can, r.kinds.Clouds[i].Name)
		}
	}
	r.complain([]string{keyPools, string(p.Name), keyWarm}, "a cloud of type %s cannot stop instances and start them "+
		"again: leave warm out, or run the pool on a cloud of type %s", where.Kind.Name, strings.Join(can, ", "))
}
