package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"cloudmaster/internal/daemon"
	"cloudmaster/internal/pool"
)

const (
	keyClouds   = "clouds"
	keyPools    = "pools"
	keyDefaults = "defaults"
	keySettings = "settings"
	keyType     = "type"
)

// Load reads the file, the environment over it (CLOUDMASTER_DEPLOYMENT,
// CLOUDMASTER_POOLS_PRIMES_START_LIMIT, …), and over both what is set on the command line
// ("pools.primes.start_limit=3"), fills in defaults and validates. The error lists all
// that is wrong, each with file, line and key.
func Load(file string, set ...string) (*Config, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(file, raw, set...)
}

// Parse is Load for a document in memory; file is only its name.
func Parse(file string, raw []byte, set ...string) (*Config, error) {
	doc, err := parseDocument(file, raw)
	if err != nil {
		return nil, err
	}
	from, err := newSources(file, raw, set)
	if err != nil {
		return nil, err
	}
	// What cannot be read keeps its default, so that the rest can be judged all the same.
	cfg, undecoded := doc.decode(from)
	cfg.File = file
	if err := errors.Join(doc.checkKeys(), undecoded, from.unused(), doc.validate(cfg)); err != nil {
		return nil, err
	}
	return cfg, nil
}

// decode fills the typed configuration, section by section, so that a complaint
// can name the place.
func (d *document) decode(from *sources) (cfg *Config, complaints error) {
	cfg = defaults()
	var errs []error
	top := from.values("", keysOf[Config]())
	errs = append(errs, d.into(cfg, top))
	errs = append(errs, d.into(&cfg.Broker, from.values("broker.", keysOf[Broker]()), "broker"))
	cfg.Clouds, cfg.Pools = map[string]Cloud{}, map[string]Pool{}
	for _, name := range d.names(keyClouds) {
		values := from.values(keyClouds+"."+name+".", keysOf[Cloud]())
		kind, _ := values[keyType].(string)
		c := cloudDefaults(kind)
		errs = append(errs, d.into(&c, values, keyClouds, name))
		cfg.Clouds[name] = c
	}
	base := poolDefaults()
	errs = append(errs, d.into(&base, from.values(keyDefaults+".", keysOf[Pool]()), keyDefaults))
	for _, name := range d.names(keyPools) {
		p := base
		p.Settings, p.Machine = maps.Clone(base.Settings), base.clone() // what is decoded over them is the pool's alone
		errs = append(errs, d.into(&p, from.values(keyPools+"."+name+".", keysOf[Pool]()), keyPools, name))
		p.complete(pool.Name(name), cfg.Deployment)
		cfg.Pools[name] = p
	}
	return cfg, errors.Join(errs...)
}

// complete derives what was left open.
func (p *Pool) complete(name pool.Name, deployment string) {
	suffix := ""
	if deployment != "" {
		suffix = "-" + deployment
	}
	p.Name = name
	for _, q := range []struct {
		name *string
		kind string
	}{{&p.WorkQueue, "work"}, {&p.StatusQueue, "status"}} {
		if *q.name == "" {
			*q.name = string(name) + "-" + q.kind
		}
		*q.name += suffix
	}
	if p.BootDeadline == 0 {
		p.BootDeadline = p.WatchdogInterval
	}
	if p.ActiveSetType == activeSetS3 {
		p.ActiveSetType = ActiveSetBlob
	}
}

// sources are where values come from.
type sources struct {
	file *viper.Viper
	set  map[string]string // on the command line, by full key
	used map[string]bool   // of set
}

func newSources(file string, raw []byte, set []string) (*sources, error) {
	from := &sources{file: viper.New(), set: make(map[string]string), used: make(map[string]bool)}
	from.file.SetConfigType("yaml")
	if err := from.file.ReadConfig(bytes.NewReader(raw)); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, item := range set {
		key, value, ok := strings.Cut(item, "=")
		if !ok {
			return nil, fmt.Errorf("--set %s: it is not KEY=VALUE, as pools.primes.start_limit=3", item)
		}
		from.set[key] = value
	}
	return from, nil
}

// values returns what command line, environment and file, in this order, say of the
// given keys. Only what is said is in the result, so that the caller's defaults stay.
func (s *sources) values(prefix string, keys []string) map[string]any {
	out := make(map[string]any)
	for _, key := range keys {
		full := prefix + key
		name := daemon.EnvPrefix + "_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(full))
		env, inEnv := os.LookupEnv(name)
		set, isSet := s.set[full]
		switch {
		case isSet:
			s.used[full] = true
			out[key] = fromText(key, set)
		case inEnv:
			out[key] = fromText(key, env)
		case s.file.IsSet(full):
			out[key] = s.file.Get(full)
		}
	}
	return out
}

// unused complains about keys on the command line that mean nothing.
func (s *sources) unused() error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(s.set)) {
		if !s.used[key] {
			errs = append(errs, fmt.Errorf("--set %s: unknown key, or of a pool or cloud that is not in the file", key))
		}
	}
	return errors.Join(errs...)
}

// fromText returns a value that is not from the file. Settings are a mapping, so they are YAML there too.
func fromText(key, text string) any {
	var settings map[string]any
	if key == keySettings && yaml.Unmarshal([]byte(text), &settings) == nil {
		return settings
	}
	return text
}

// into decodes values into a section's struct; each complaint gets the section's place.
func (d *document) into(target any, values map[string]any, path ...string) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		dec, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
			Result:     target,
			DecodeHook: mapstructure.ComposeDecodeHookFunc(durationHook, numberHook, mapstructure.StringToSliceHookFunc(",")),
		})
		if err != nil {
			return fmt.Errorf("decode %s: %w", d.file, err)
		}
		if err := dec.Decode(map[string]any{key: values[key]}); err != nil {
			errs = append(errs, d.problem(append(slices.Clone(path), key), "%v is %s", values[key], kindOf(target, key)))
		}
	}
	return errors.Join(errs...)
}

// kindOf says what a key's value should have been.
func kindOf(target any, key string) string {
	for _, f := range reflect.VisibleFields(reflect.TypeOf(target).Elem()) {
		if f.Tag.Get("mapstructure") != key {
			continue
		}
		switch {
		case f.Type == durationType:
			return "not a duration, as 5s or 10m"
		case f.Type.Kind() == reflect.Int:
			return "not a whole number"
		case f.Type.Kind() == reflect.Float64:
			return "not a number"
		case f.Type.Kind() == reflect.Map:
			return "not a mapping of keys to values, as {max_n: 5}"
		case f.Type.Kind() == reflect.Slice:
			return "not a list of words"
		}
		return "not " + f.Type.String()
	}
	return "not understood"
}

// keysOf lists the keys of a section that hold a value, not a section of their own.
func keysOf[T any]() []string {
	var keys []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		key := f.Tag.Get("mapstructure")
		section := f.Type.Kind() == reflect.Struct || f.Type.Kind() == reflect.Map && key != keySettings
		if key != "-" && !section && !f.Anonymous {
			keys = append(keys, key)
		}
	}
	return keys
}
