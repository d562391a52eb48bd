// Package kind lets policies, clouds, report sinks and backends describe their own settings, so that
// the configuration can be read, checked and documented without knowing any of them.
//
// The settings of a kind are a struct. Each field that is a key has the tags `key:"name"` and
// `help:"one line"`; embedded structs contribute their fields. What the fields hold when the kind
// makes the struct are the defaults. Where the default is found out later, the tag `default:"words"`
// says what it will be.
package kind

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Settings is a pointer to the settings of a kind.
type Settings interface {
	// Validate returns all that is wrong, joined; each error begins with its key.
	Validate() error
}

// None are the settings of a kind that has no keys.
type None struct{}

// Validate finds nothing.
func (*None) Validate() error { return nil }

// Key describes one setting.
type Key struct {
	Name string
	// Type is for people: "duration", "whole number", "number", "text", "true or false", "list of words", "list",
	// "mapping", "word, list or mapping".
	Type    string
	Default string // as it is written in the configuration, or in words; empty if there is none
	Help    string // one line
}

// Keys describes the settings, in the order of the fields. s is a pointer to a struct.
func Keys(s any) []Key {
	v := reflect.ValueOf(s).Elem()
	var keys []Key
	for _, f := range reflect.VisibleFields(v.Type()) {
		name := f.Tag.Get("key")
		if name == "" || f.Anonymous {
			continue
		}
		value := v.FieldByIndex(f.Index)
		k := Key{Name: name, Type: typeName(f.Type), Default: f.Tag.Get("default"), Help: f.Tag.Get("help")}
		if k.Default == "" || !value.IsZero() {
			k.Default = written(value)
		}
		keys = append(keys, k)
	}
	return keys
}

// Names returns the names of the keys, in the order of the fields.
func Names(s any) []string {
	var names []string
	for _, k := range Keys(s) {
		names = append(names, k.Name)
	}
	return names
}

// Field returns the field that a key names, which can be set; the zero Value if there is none.
// s is a pointer to a struct.
func Field(s any, name string) reflect.Value {
	v := reflect.ValueOf(s).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		if f.Tag.Get("key") == name && name != "" && !f.Anonymous {
			return v.FieldByIndex(f.Index)
		}
	}
	return reflect.Value{}
}

// Text writes all settings, a line each, as "key: value". Equal settings have equal texts, also where they
// hold pointers.
func Text(s any) string {
	var out strings.Builder
	for _, name := range Names(s) {
		value := Field(s, name).Interface()
		text, err := json.Marshal(value)
		if err != nil { // numbers that JSON does not have
			text = fmt.Appendf(nil, "%#v", value)
		}
		fmt.Fprintf(&out, "%s: %s\n", name, text)
	}
	return out.String()
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t.Kind() == reflect.Int:
		return "whole number"
	case t.Kind() == reflect.Float64:
		return "number"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Map:
		return "mapping"
	case t.Kind() == reflect.Interface:
		return "word, list or mapping"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return "list of words"
	case t.Kind() == reflect.Slice:
		return "list"
	}
	return "text"
}

// written is a default as people write it.
func written(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		return Duration(d)
	}
	if k := v.Kind(); k == reflect.Slice || k == reflect.Map {
		if v.Len() == 0 {
			return ""
		}
		return strings.Trim(fmt.Sprint(v.Interface()), "[]")
	}
	return fmt.Sprint(v.Interface())
}

// Duration writes a duration as people do: 1h instead of 1h0m0s.
func Duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
