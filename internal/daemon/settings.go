package daemon

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// EnvPrefix begins the environment variables that set flags: CLOUDMASTER_MAX_CLIENTS sets --max-clients.
const EnvPrefix = "CLOUDMASTER"

const (
	flagConfig   = "config"
	flagVersion  = "version"
	flagLogLevel = "log-level"
)

// addCommonFlags adds --log-level, which Logger reads.
func addCommonFlags(fs *pflag.FlagSet) {
	fs.String(flagLogLevel, "info", "least level that is logged: debug, info, warn or error")
}

// Parse reads a program's settings into the variables of its flags. The value of a flag is that of the first of these
// which has one:
//
//   - the command line;
//   - the environment: CLOUDMASTER_<FLAG>, with underscores in place of dashes;
//   - the YAML file that --config names: keys are the flags' names, with underscores in place of dashes;
//   - under, the settings in the user data, with the same keys;
//   - the flag's default.
//
// All unknown keys and bad values are named in one error, which says where each was found. Parse adds the flags
// --config, --version and --log-level. After --help or --version it returns ErrDone. Help is written to the output of
// fs (fs.SetOutput; standard error if unset).
func Parse(fs *pflag.FlagSet, args []string, under map[string]any) error {
	config := fs.String(flagConfig, "", "YAML `FILE` with settings; keys are flag names with underscores")
	version := fs.Bool(flagVersion, false, "print the version and exit")
	addCommonFlags(fs)
	fs.SortFlags = false
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return ErrDone
		}
		return usageError{err}
	}
	if *version {
		fmt.Fprintln(fs.Output(), fs.Name(), Version())
		return ErrDone
	}
	s := newSettings(fs)
	errs := []error{s.addMap("user data", under)}
	if *config == "" {
		*config = s.v.GetString(flagConfig)
	}
	if *config != "" {
		errs = append(errs, s.addFile(*config))
	}
	errs = append(errs, s.apply())
	if err := errors.Join(errs...); err != nil {
		return usageError{err}
	}
	return nil
}

// settings are the layers below the command line.
type settings struct {
	fs     *pflag.FlagSet
	v      *viper.Viper      // the environment, which takes precedence, and what was added
	origin map[string]string // by flag: where the value that was added last comes from
}

func newSettings(fs *pflag.FlagSet) *settings {
	v := viper.New()
	v.SetEnvPrefix(EnvPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	return &settings{fs: fs, v: v, origin: make(map[string]string)}
}

// add makes value the value of the flag that key names. A later call overrides an earlier one.
func (s *settings) add(source, key string, value any) error {
	name := strings.ReplaceAll(key, "_", "-")
	switch {
	case s.fs.Lookup(name) == nil || name == flagConfig || name == flagVersion:
		return fmt.Errorf("%s: %s is not a setting of %s", source, key, s.fs.Name())
	case value == nil:
		return fmt.Errorf("%s: %s has no value", source, key)
	}
	s.v.SetDefault(name, value)
	s.origin[name] = source + ": " + key
	return nil
}

func (s *settings) addMap(source string, values map[string]any) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		errs = append(errs, s.add(source, key, values[key]))
	}
	return errors.Join(errs...)
}

// addFile reads YAML node by node. Viper's own reader has no line numbers, turns keys into lower case, and
// reads the version 1.10 as the number 1.1.
func (s *settings) addFile(file string) error {
	text, err := ReadFile(file)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("read settings: %s: %w", file, err)
	}
	if doc.IsZero() {
		return nil // nothing but comments
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("read settings: %s:%d: not a mapping of settings to values", file, root.Line)
	}
	var errs []error
	lines := make(map[string]int)
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		source := fmt.Sprintf("%s:%d", file, key.Line)
		if line, twice := lines[key.Value]; twice {
			errs = append(errs, fmt.Errorf("%s: %s is already set in line %d", source, key.Value, line))
			continue
		}
		lines[key.Value] = key.Line
		errs = append(errs, s.add(source, key.Value, plain(value)))
	}
	return errors.Join(errs...)
}

// plain returns a scalar as it is written, a list of scalars, or nil for null. For anything else it returns an empty
// mapping, which no flag accepts. That includes aliases of lists, because such a list may contain itself.
func plain(n *yaml.Node) any {
	if n.Kind == yaml.AliasNode && n.Alias.Kind == yaml.ScalarNode {
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		return nil
	case n.Kind == yaml.ScalarNode:
		return n.Value
	case n.Kind == yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = plain(item)
		}
		return list
	}
	return map[string]any{}
}

// apply sets the flags that the command line did not set, from environment, file and user data.
func (s *settings) apply() error {
	var errs []error
	s.fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || !s.v.IsSet(f.Name) || f.Name == flagVersion || f.Name == "help" {
			return
		}
		if err := set(f, s.v.Get(f.Name)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.where(f), err))
		}
	})
	return errors.Join(errs...)
}

// where says where the value of a flag comes from.
func (s *settings) where(f *pflag.Flag) string {
	env := EnvPrefix + "_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
	if os.Getenv(env) != "" {
		return env
	}
	return s.origin[f.Name]
}

func set(f *pflag.Flag, value any) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		items, err := words(value)
		if err != nil {
			return err
		}
		if err := list.Replace(items); err != nil {
			return fmt.Errorf("invalid list %q: %w", items, err)
		}
		return nil
	}
	text, err := word(value)
	if err != nil {
		return err
	}
	if err := f.Value.Set(text); err != nil {
		return fmt.Errorf("invalid value %q: %w", text, err)
	}
	return nil
}

// words returns the items of a list, which the environment has as words separated by commas.
func words(value any) ([]string, error) {
	var out []string
	switch value := value.(type) {
	case []string:
		return value, nil
	case []any:
		for _, item := range value {
			text, err := word(item)
			if err != nil {
				return nil, err
			}
			out = append(out, text)
		}
		return out, nil
	}
	text, err := word(value)
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out, err
}

// word returns a single value as text.
func word(value any) (string, error) {
	switch value.(type) {
	case nil:
		return "", errors.New("an item has no value")
	case []any, []string:
		return "", errors.New("is a list, not a single value")
	case map[string]any, map[any]any:
		return "", errors.New("is a mapping, not a single value")
	}
	return fmt.Sprint(value), nil
}
