package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"cloudmaster/internal/kind"
)

// reader turns a document and its overrides into a configuration. What cannot be read keeps its default,
// so that the rest can be judged all the same.
type reader struct {
	doc      *document
	from     *sources
	kinds    Kinds
	problems []problem
	said     map[string]bool
	unread   map[string]bool // full keys whose values could not be read
}

// problem is one complaint and where it belongs in the file.
type problem struct {
	line int
	text string
}

// complain notes what is wrong at a path, once.
func (r *reader) complain(path []string, format string, args ...any) {
	r.complainAt(r.doc.line(path), path, format, args...)
}

func (r *reader) complainAt(line int, path []string, format string, args ...any) {
	text := fmt.Sprintf("%s:%d: %s: %s", r.doc.file, line, strings.Join(path, "."), fmt.Sprintf(format, args...))
	if !r.said[text] {
		r.said[text] = true
		r.problems = append(r.problems, problem{line, text})
	}
}

// complainEach notes joined errors, each by itself. Those that begin with a key of the section belong to its line.
func (r *reader) complainEach(path []string, err error) {
	if err == nil {
		return
	}
	for text := range strings.SplitSeq(err.Error(), "\n") {
		word, _, _ := strings.Cut(text, " ")
		key, isPlace := strings.CutSuffix(word, ":")
		at := append(slices.Clone(path), key)
		if isPlace && r.unread[strings.Join(at, ".")] {
			continue // its value could not be read, so nothing can be said of it
		}
		if isPlace {
			r.complain(at, "%s", strings.TrimSpace(text[len(word):]))
			continue
		}
		r.complainAt(r.doc.line(at), path, "%s", text)
	}
}

// complaints are all that was noted, in the order of the file.
func (r *reader) complaints() error {
	slices.SortStableFunc(r.problems, func(a, b problem) int { return a.line - b.line })
	var errs []error
	for _, p := range r.problems {
		errs = append(errs, errors.New(p.text))
	}
	return errors.Join(errs...)
}

// layer sets the keys of target, a pointer to a struct, to what is said of them in the section at the path.
// Lists replace what is there, mappings are put over it.
func (r *reader) layer(target any, path ...string) {
	for key, err := range r.layered(target, path) {
		here := append(slices.Clone(path), key)
		r.unread[strings.Join(here, ".")] = true
		if items, ok := errors.AsType[itemErrors](err); ok {
			for _, one := range items {
				r.complain(here, "%v", one)
			}
			continue
		}
		value, _ := r.value(path, key)
		r.complain(here, "%s is %v", written(value), err)
	}
}

// layerQuietly is layer for sections whose values are complained about elsewhere.
func (r *reader) layerQuietly(target any, path ...string) { _ = r.layered(target, path) }

// layered returns why values could not be taken, by key.
func (r *reader) layered(target any, path []string) map[string]error {
	wrong := make(map[string]error)
	for _, key := range kind.Names(target) {
		value, said := r.value(path, key)
		if !said {
			continue
		}
		if err := set(kind.Field(target, key), value); err != nil {
			wrong[key] = err
		}
	}
	return wrong
}

func (r *reader) value(path []string, key string) (any, bool) {
	return r.from.value(strings.Join(append(slices.Clone(path), key), "."))
}

// defaulted sets target to what defaults and then the section at the path say. What is wrong under defaults
// has been said by readDefaults.
func (r *reader) defaulted(target any, path ...string) {
	r.layerQuietly(target, keyDefaults)
	r.layer(target, path...)
}

// section is what may stand at a path of the file.
type section struct {
	path    []string
	known   []string
	foreign map[string]string // keys that mean something elsewhere, each with where
}

// check complains about every key that means nothing, and about a section that is none.
func (r *reader) check(s section) {
	for key, why := range s.foreign {
		if slices.Contains(s.known, key) {
			continue
		}
		r.from.foreign[strings.Join(append(slices.Clone(s.path), key), ".")] = why
	}
	n := r.doc.find(s.path)
	if n == nil || n.Tag == "!!null" {
		return
	}
	if !isMapping(n) {
		r.complain(s.path, "is not a mapping of keys to values")
		return
	}
	seen := make(map[string]bool)
	for _, key := range keysIn(n) {
		here := append(slices.Clone(s.path), key)
		why, foreign := s.foreign[key]
		switch {
		case seen[key]:
			r.complain(here, "stands here twice")
		case slices.Contains(s.known, key):
		case foreign:
			r.complain(here, "%s", why)
		default:
			r.complain(here, "unknown key%s", suggestion(key, s.known))
		}
		seen[key] = true
	}
}

// foreignKeys says of keys in whose settings they are, for messages. of are names of kinds with their keys.
func foreignKeys(out map[string]string, format string, of map[string][]string) {
	owners := make(map[string][]string)
	for _, name := range slices.Sorted(maps.Keys(of)) {
		for _, key := range of[name] {
			owners[key] = append(owners[key], name)
		}
	}
	for key, names := range owners {
		out[key] = fmt.Sprintf(format, strings.Join(names, " or "))
	}
}

// notAMapping says what a mapping should have been. Of those to whole numbers and to words there is one each.
func notAMapping(t reflect.Type) error {
	switch {
	case t == reflect.TypeFor[rolloutSaid]():
		return errors.New("not a mapping of keys to values, as {max_surge: 1}")
	case t.Elem().Kind() == reflect.Int:
		return errors.New("not a mapping of keys to numbers, as {" + keyStopped + ": 2}")
	case t.Elem().Kind() == reflect.String:
		return errors.New("not a mapping of keys to words, as {team: web}")
	}
	return errors.New("not a mapping of keys to values, as {max_n: 5}")
}

// notA says what a value should have been.
func notA(t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == durationType:
		return errors.New("not a duration, as 5s or 10m")
	case t.Kind() == reflect.Int:
		return errors.New("not a whole number")
	case t.Kind() == reflect.Float64:
		return errors.New("not a number")
	case t.Kind() == reflect.Bool:
		return errors.New("not true or false")
	case t.Kind() == reflect.Map:
		return notAMapping(t)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return errors.New("not a list of words")
	}
	return errors.New("not a word")
}
