package config

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// read fills the typed configuration, section by section, and complains about keys and values that cannot be read.
func (r *reader) read() *Config {
	top := r.kinds.topDefaults()
	r.layer(&top)
	cfg := &Config{
		File: r.doc.file, Deployment: top.Deployment, WorkerBackend: top.WorkerBackend,
		OpsListen: top.OpsListen, LogLevel: top.LogLevel,
		Clouds: make(map[pool.CloudName]Cloud), Pools: make(map[pool.Name]Pool),
	}
	sections := []string{keyClouds, keyPools, keyDefaults}
	cfg.Backend, sections = r.readBackend(top.Backend, sections)
	r.check(section{known: append(kind.Names(&top), sections...)})
	for _, key := range []string{keyClouds, keyPools} {
		if n := r.doc.find([]string{key}); n != nil && n.Tag != "!!null" && !isMapping(n) {
			r.complain([]string{key}, "is not a mapping of names to %s", key)
		}
	}
	cfg.Reports = r.readReports(top.Report)
	cfg.Prices = r.readPrices(top.Prices)
	for _, name := range r.doc.names(keyClouds) {
		cfg.Clouds[pool.CloudName(name)] = r.readCloud(name)
	}
	r.readDefaults()
	for _, name := range r.doc.names(keyPools) {
		cfg.Pools[pool.Name(name)] = r.readPool(name, cfg)
	}
	return cfg
}

// readBackend reads the sections of all backends, so that one may stay in the file when another is named.
func (r *reader) readBackend(address string, sections []string) (Backend, []string) {
	k, known := r.kinds.backend(address)
	back := Backend{Address: address, Kind: k, Settings: new(kind.None)}
	if !known {
		r.complain([]string{"backend"}, "%s", r.kinds.notABackend(address))
	}
	for i := range r.kinds.Backends {
		b := &r.kinds.Backends[i]
		if b.Section == "" {
			continue
		}
		settings := backendSettings(b)
		r.layer(settings, b.Section)
		r.check(section{path: []string{b.Section}, known: kind.Names(settings)})
		sections = append(sections, b.Section)
		if b.Name == k.Name {
			back.Settings = settings
		}
	}
	return back, sections
}

// readReports reads names, and mappings with a type, alone or in a list.
func (r *reader) readReports(value any) []Report {
	var list []any
	// On the command line and in the environment there is only text.
	if text, _ := value.(string); strings.HasPrefix(text, "[") || strings.HasPrefix(text, "{") {
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			r.complain([]string{keyReport}, "%s is not YAML: %v", text, err)
			return nil
		}
	}
	switch v := value.(type) {
	case string:
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				list = append(list, name)
			}
		}
	case []any:
		list = v
	default:
		list = []any{v}
	}
	var out []Report
	for _, item := range list {
		one, ok := r.readReport(item)
		if !ok {
			continue
		}
		twice := func(other Report) bool {
			return other.Kind.Name == one.Kind.Name && kind.Text(other.Settings) == kind.Text(one.Settings)
		}
		if slices.ContainsFunc(out, twice) {
			r.complain([]string{keyReport}, "%s stands here twice, and would say everything twice", one.Kind.Name)
			continue
		}
		out = append(out, one)
	}
	return out
}

func (r *reader) readReport(item any) (Report, bool) {
	path := []string{keyReport}
	keys, _ := item.(map[string]any)
	name := item
	if keys != nil {
		name = keys[keyType]
	}
	text, isText := name.(string)
	if !isText {
		r.complain(path, "%v is neither the name of a report nor a mapping with its type, as {type: %s}",
			item, r.kinds.Sinks[0].Name)
		return Report{}, false
	}
	k, known := r.kinds.sink(text)
	if !known {
		r.complain(path, "%q is not one of %s", text, strings.Join(names(r.kinds.Sinks, sinkName), ", "))
		return Report{}, false
	}
	settings := k.Settings()
	for _, key := range slices.Sorted(mapKeys(keys)) {
		field := kind.Field(settings, key)
		switch {
		case key == keyType:
		case !field.IsValid():
			r.complain(path, "%s: unknown key of %s%s", key, text,
				suggestion(key, append(kind.Names(settings), keyType)))
		default:
			if err := set(field, keys[key]); err != nil {
				r.complain(path, "%s: %v is %v", key, keys[key], err)
			}
		}
	}
	return Report{Kind: k, Settings: settings}, true
}

func (r *reader) readCloud(name string) Cloud {
	keys := cloudKeys{Type: r.kinds.Clouds[0].Name}
	path := []string{keyClouds, name}
	if said, ok := r.value(path, keyType); ok {
		_ = set(kind.Field(&keys, keyType), said) // complained about below
	}
	k, known := r.kinds.cloud(keys.Type)
	keys.AuditInterval = k.AuditInterval
	r.layer(&keys, path...)
	c := Cloud{Name: pool.CloudName(name), Kind: k, AuditInterval: keys.AuditInterval, Settings: new(kind.None)}
	others := make(map[string][]string)
	for i := range r.kinds.Clouds {
		others[r.kinds.Clouds[i].Name] = kind.Names(r.kinds.Clouds[i].Settings())
	}
	if !known {
		r.complain([]string{keyClouds, name, keyType}, "%q is not a type of cloud: there are %s",
			keys.Type, strings.Join(names(r.kinds.Clouds, cloudName), ", "))
		r.check(section{path: path, known: slices.Concat(append(mapValues(others), kind.Names(&keys))...)})
		return c
	}
	c.Settings = k.Settings()
	r.layer(c.Settings, path...)
	s := section{
		path: path, known: append(kind.Names(&keys), kind.Names(c.Settings)...), foreign: make(map[string]string),
	}
	foreignKeys(s.foreign, "is only for clouds of type %s", others)
	r.check(s)
	return c
}

// readDefaults says what is wrong with the section itself. Its values are read anew for each pool, under the pool's.
func (r *reader) readDefaults() {
	path := []string{keyDefaults}
	keys := r.kinds.poolDefaults()
	r.layer(&keys, keyDefaults)
	known := slices.DeleteFunc(kind.Names(&keys), func(key string) bool { return key == keyImage || key == keyCloud })
	for i := range r.kinds.Policies {
		r.layer(r.kinds.Policies[i].Settings(), keyDefaults)
		known = append(known, policyKeys(&r.kinds.Policies[i])...)
	}
	for i := range r.kinds.Clouds {
		if k := &r.kinds.Clouds[i]; k.PoolSettings != nil {
			r.layer(k.PoolSettings(), keyDefaults)
			known = append(known, poolKeysOn(k)...)
		}
	}
	r.check(section{path: path, known: known})
}

func (r *reader) readPool(name string, cfg *Config) Pool {
	path := []string{keyPools, name}
	keys := r.kinds.poolDefaults()
	r.defaulted(&keys, path...)
	if keys.ActiveSetType == activeSetS3 {
		keys.ActiveSetType = ActiveSetBlob
	}
	p := Pool{
		Name: pool.Name(name), Image: keys.Image, Cloud: pool.CloudName(keys.Cloud), OnRemove: keys.OnRemove,
		Watchdog: keys.watchdog(), Times: keys.times(), StatusParser: keys.StatusParser,
		VerifySender: keys.VerifySender, Warm: r.readWarm(keys.Warm, path),
		ActiveSet: keys.ActiveSetType, ServicePort: keys.ServicePort,
		AnyAddress: keys.AnyAddress, Settings: keys.Settings,
	}
	where, placed := cfg.Clouds[p.Cloud]
	if where.Kind.PoolSettings != nil {
		p.OnCloud = where.Kind.PoolSettings()
		r.defaulted(p.OnCloud, path...)
	}
	p.Policy = r.readPolicy(keys.Policy, path)
	p.Rollout, p.MaximumLifetime = r.readRollout(path, keys.Rollout), keys.MaximumLifetime
	traits := p.Policy.Traits()
	p.Limits = keys.limits(traits.Drains)
	orders := ""
	if traits.Orders != "" {
		orders = r.word(traits.Orders, path)
	}
	p.Queues = keys.queues(p.Name, cfg.Deployment, orders, traits)
	if keys.MaxDeliveries < 1 {
		r.complain(append(slices.Clone(path), "max_deliveries"), "%d is less than 1", keys.MaxDeliveries)
	}
	if keys.VisibilityTimeout < time.Second {
		r.complain(append(slices.Clone(path), "visibility_timeout"), "%s is less than 1s", keys.VisibilityTimeout)
	}
	r.checkPoolKeys(path, &p, &where.Kind, placed && where.Kind.Name != "")
	return p
}

// word reads a key that is in no struct.
func (r *reader) word(key string, path []string) string {
	for _, at := range [][]string{path, {keyDefaults}} {
		value, said := r.value(at, key)
		if !said {
			continue
		}
		if text, ok := value.(string); ok {
			return text
		}
		r.complain(append(slices.Clone(at), key), "%v is not a word", value)
	}
	return ""
}

// checkPoolKeys complains about keys that mean nothing in a pool with this policy on this cloud.
func (r *reader) checkPoolKeys(path []string, p *Pool, where *cloud.Kind, placed bool) {
	s := section{path: path, known: kind.Names(new(poolKeys)), foreign: make(map[string]string)}
	policies, clouds := make(map[string][]string), make(map[string][]string)
	for i := range r.kinds.Policies {
		policies[r.kinds.Policies[i].Name] = policyKeys(&r.kinds.Policies[i])
	}
	for i := range r.kinds.Clouds {
		clouds[r.kinds.Clouds[i].Name] = poolKeysOn(&r.kinds.Clouds[i])
	}
	known := true
	for one := &p.Policy; one != nil; one = one.Base {
		s.known = append(s.known, policies[one.Kind.Name]...)
		known = known && one.Kind.New != nil
	}
	if !known { // then nobody knows which keys are meant
		s.known = append(s.known, slices.Concat(mapValues(policies)...)...)
	}
	if s.known = append(s.known, clouds[where.Name]...); !placed {
		s.known = append(s.known, slices.Concat(mapValues(clouds)...)...)
	}
	foreignKeys(s.foreign, "is only for pools with policy %s", policies)
	foreignKeys(s.foreign, "is only for pools on a cloud of type %s", clouds)
	r.check(s)
}
