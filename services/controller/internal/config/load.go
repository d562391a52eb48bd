package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/viper"

	"cloudmaster/internal/daemon"
)

// Load reads the file, the environment over it (CLOUDMASTER_DEPLOYMENT,
// CLOUDMASTER_POOLS_PRIMES_START_LIMIT, …), and over both what is set on the command line
// ("pools.primes.start_limit=3"), fills in defaults and validates. The error lists all
// that is wrong, each with file, line and key.
func Load(file string, kinds Kinds, set ...string) (*Config, error) {
	raw, err := daemon.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(file, raw, kinds, set...)
}

// Parse is Load for a document in memory; file is only its name.
func Parse(file string, raw []byte, kinds Kinds, set ...string) (*Config, error) {
	doc, err := parseDocument(file, raw)
	if err != nil {
		return nil, err
	}
	from, err := newSources(file, raw, set)
	if err != nil {
		return nil, err
	}
	r := &reader{doc: doc, from: from, kinds: kinds, said: make(map[string]bool), unread: make(map[string]bool)}
	cfg := r.read()
	r.validate(cfg)
	if err := errors.Join(r.complaints(), from.unused()); err != nil {
		return nil, err
	}
	return cfg, nil
}

// sources are where values come from.
type sources struct {
	file    *viper.Viper
	set     map[string]string // on the command line, by full key
	used    map[string]bool   // of set
	foreign map[string]string // why keys mean nothing where they are, by full key
}

func newSources(file string, raw []byte, set []string) (*sources, error) {
	from := &sources{
		file: viper.New(), set: make(map[string]string), used: make(map[string]bool), foreign: make(map[string]string),
	}
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

// value returns what command line, environment and file, in this order, say of a key; false if nothing.
func (s *sources) value(full string) (any, bool) {
	if text, ok := s.set[full]; ok {
		s.used[full] = true
		return text, true
	}
	name := daemon.EnvPrefix + "_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(full))
	if text, ok := os.LookupEnv(name); ok {
		return text, true
	}
	if s.file.IsSet(full) {
		return s.file.Get(full), true
	}
	return nil, false
}

// unused complains about keys on the command line that mean nothing.
func (s *sources) unused() error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(s.set)) {
		switch why := s.foreign[key]; {
		case s.used[key]:
		case why != "":
			errs = append(errs, fmt.Errorf("--set %s: %s", key, why))
		default:
			errs = append(errs, fmt.Errorf("--set %s: unknown key, or of a pool or cloud that is not in the file", key))
		}
	}
	return errors.Join(errs...)
}
