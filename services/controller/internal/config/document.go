package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// document is the file as it was written: it knows the line of each key.
type document struct {
	file string
	root *yaml.Node // a mapping
}

func parseDocument(file string, raw []byte) (*document, error) {
	var n, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&n); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: there is a second document behind the first: %w", file, cmp.Or(err, errors.New("only one is read")))
	}
	if len(n.Content) == 0 || n.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: the configuration is not a YAML mapping of keys to values", file)
	}
	return &document{file: file, root: n.Content[0]}, nil
}

// problem is one complaint: "demo.yaml:7: pools.primes.image: …".
func (d *document) problem(path []string, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s: %s", d.file, d.line(path), strings.Join(path, "."), fmt.Sprintf(format, args...))
}

// line returns the line of the longest beginning of the path that is in the file.
func (d *document) line(path []string) int {
	line, n := 1, d.root
	for _, key := range path {
		k, v := child(n, key)
		if k == nil {
			break
		}
		line, n = k.Line, v
	}
	return line
}

// names returns the keys of a top-level section in the order of the file.
func (d *document) names(section string) []string {
	_, n := child(d.root, section)
	return keysIn(n)
}

func child(n *yaml.Node, key string) (k, v *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

func keysIn(n *yaml.Node) []string {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var keys []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		keys = append(keys, n.Content[i].Value)
	}
	return keys
}

var durationType = reflect.TypeFor[time.Duration]()

// durationHook takes "5s", and refuses a bare number, which has no unit.
func durationHook(_, to reflect.Type, value any) (any, error) {
	if to != durationType {
		return value, nil
	}
	if text, ok := value.(string); ok {
		return time.ParseDuration(text)
	}
	if value == 0 {
		return time.Duration(0), nil
	}
	return nil, fmt.Errorf("%v has no unit", value)
}

// numberHook takes numbers, and words that are numbers as the environment has them.
// The decoder itself would cut off fractions and overflow silently.
func numberHook(_, to reflect.Type, value any) (any, error) {
	switch text, isText := value.(string); {
	case to.Kind() == reflect.Int && isText:
		return strconv.Atoi(text)
	case to.Kind() == reflect.Int && reflect.TypeOf(value).Kind() != reflect.Int:
		return nil, fmt.Errorf("%v is not a whole number", value)
	case to.Kind() == reflect.Float64 && isText:
		return strconv.ParseFloat(text, 64)
	}
	return value, nil
}

// checkKeys complains about every key that means nothing, and every section that is none.
func (d *document) checkKeys() error {
	top := append(keysOf[Config](), "broker", keyClouds, keyPools, keyDefaults)
	errs := []error{d.checkSection(d.root, nil, top)}
	section := func(keys []string, path ...string) {
		n := d.find(path)
		if n == nil || n.Tag == "!!null" {
			return
		}
		errs = append(errs, d.checkSection(n, path, keys))
	}
	section(keysOf[Broker](), "broker")
	section(without(keysOf[Pool](), "image", "cloud"), keyDefaults)
	for _, name := range d.names(keyClouds) {
		section(d.cloudKeys(name), keyClouds, name)
	}
	for _, name := range d.names(keyPools) {
		section(keysOf[Pool](), keyPools, name)
	}
	return errors.Join(errs...)
}

// cloudKeys are those that a cloud of the type that the file names may have.
func (d *document) cloudKeys(name string) []string {
	kind := d.find([]string{keyClouds, name, keyType})
	foreign := keysOf[EC2]()
	if kind != nil && kind.Value == EC2Cloud {
		foreign = keysOf[Process]()
	}
	return without(keysOf[Cloud](), foreign...)
}

func without(keys []string, drop ...string) []string {
	return slices.DeleteFunc(keys, func(k string) bool { return slices.Contains(drop, k) })
}

// find returns what is at a path; nil if the file has nothing there.
func (d *document) find(path []string) *yaml.Node {
	n := d.root
	for _, key := range path {
		var k *yaml.Node
		if k, n = child(n, key); k == nil {
			return nil
		}
	}
	return n
}

func (d *document) checkSection(n *yaml.Node, path, known []string) error {
	if n.Kind != yaml.MappingNode {
		return d.problem(path, "is not a mapping of keys to values")
	}
	var errs []error
	seen := make(map[string]bool)
	for _, key := range keysIn(n) {
		here := append(slices.Clone(path), key)
		switch {
		case seen[key]:
			errs = append(errs, d.problem(here, "stands here twice"))
		case !slices.Contains(known, key):
			errs = append(errs, d.problem(here, "unknown key%s", suggestion(key, known)))
		}
		seen[key] = true
	}
	return errors.Join(errs...)
}

// suggestion names the known key that was most likely meant.
func suggestion(key string, known []string) string {
	best, least := "", 1+len(key)/3
	for _, k := range known {
		if n := distance(key, k); n < least {
			best, least = k, n
		}
	}
	if best == "" {
		return "; known here are " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
	}
	return ", did you mean " + best + "?"
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
