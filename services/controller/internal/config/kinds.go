package config

import (
	"fmt"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/policy"
	"cloudmaster/services/controller/internal/report"
)

// Kinds are what a configuration can name. There is at least one of each, and the first of each is the default.
type Kinds struct {
	Policies []policy.Kind
	Clouds   []cloud.Kind
	Backends []backend.Kind
	Sinks    []report.SinkKind
}

func (k *Kinds) cloud(name string) (cloud.Kind, bool) {
	return find(k.Clouds, func(c *cloud.Kind) bool { return c.Name == name })
}

func (k *Kinds) backend(address string) (backend.Kind, bool) {
	return find(k.Backends, func(b *backend.Kind) bool { return b.Takes(address) })
}

// Connect returns the address at which a program beside the controller reaches the backend, and what opens it.
func (k *Kinds) Connect(b *Backend) (string, backend.Kind, error) {
	address := b.Address
	if b.Kind.Client != nil {
		var err error
		if address, err = b.Kind.Client(address, b.Settings); err != nil {
			return "", backend.Kind{}, err
		}
	}
	opens, known := k.backend(address)
	if !known {
		return "", backend.Kind{}, fmt.Errorf("%s", k.notABackend(backend.Redacted(address)))
	}
	return address, opens, nil
}

func (k *Kinds) sink(name string) (report.SinkKind, bool) {
	return find(k.Sinks, func(s *report.SinkKind) bool { return s.Name == name })
}

func find[T any](list []T, is func(*T) bool) (T, bool) {
	for i := range list {
		if is(&list[i]) {
			return list[i], true
		}
	}
	return *new(T), false
}

func names[T any](list []T, name func(*T) string) []string {
	var out []string
	for i := range list {
		out = append(out, name(&list[i]))
	}
	return out
}

func policyName(p *policy.Kind) string   { return p.Name }
func cloudName(c *cloud.Kind) string     { return c.Name }
func sinkName(s *report.SinkKind) string { return s.Name }

// policyKeys are the keys that pools with a policy have beside those of all pools.
func policyKeys(p *policy.Kind) []string {
	keys := kind.Names(p.Settings())
	if p.Over != "" {
		keys = append(keys, keyBase)
	}
	if p.Traits.Orders != "" {
		keys = append(keys, p.Traits.Orders)
	}
	return keys
}

// poolKeysOn are the keys that pools have on a cloud beside those of all pools.
func poolKeysOn(c *cloud.Kind) []string {
	if c.PoolSettings == nil {
		return nil
	}
	return kind.Names(c.PoolSettings())
}

// backendSettings are the defaults of a backend's settings.
func backendSettings(b *backend.Kind) kind.Settings {
	if b.Settings == nil {
		return new(kind.None)
	}
	return b.Settings()
}
