package config

import (
	"slices"
	"strings"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/policy"
)

// readPolicy reads the policy of the pool at the path, and the one that it changes.
func (r *reader) readPolicy(name string, path []string) Policy {
	p := r.readOnePolicy(name, append(slices.Clone(path), "policy"), r.kinds.Policies, path)
	if p.Kind.Over == "" {
		return p
	}
	over := baseKey{Base: p.Kind.Over}
	r.defaulted(&over, path...)
	plain := slices.DeleteFunc(slices.Clone(r.kinds.Policies), func(k policy.Kind) bool { return k.Over != "" })
	base := r.readOnePolicy(over.Base, append(slices.Clone(path), keyBase), plain, path)
	p.Base = &base
	return p
}

// readOnePolicy reads the settings of one of some policies. key is where it was named.
func (r *reader) readOnePolicy(name string, key []string, among []policy.Kind, path []string) Policy {
	k, known := find(among, func(p *policy.Kind) bool { return p.Name == name })
	if !known {
		r.complain(key, "there is no policy %q: there are %s", name, strings.Join(names(among, policyName), ", "))
		return Policy{Kind: policy.Kind{Name: name}, Settings: new(kind.None)}
	}
	p := Policy{Kind: k, Settings: k.Settings()}
	r.defaulted(p.Settings, path...)
	return p
}
