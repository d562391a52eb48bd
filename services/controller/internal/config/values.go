package config

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"go.yaml.in/yaml/v3"

	"cloudmaster/internal/kind"
)

// set puts a value into a field, or says what it should have been.
func set(field reflect.Value, value any) error {
	t := field.Type()
	if text, ok := value.(string); ok && structured(t) { // from the environment or the command line
		var doc any
		if yaml.Unmarshal([]byte(text), &doc) == nil {
			value = doc
		}
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
		return setItems(field, value)
	}
	fresh := reflect.New(t) // a list of defaults must not be written into
	if t.Kind() == reflect.Map && field.Len() > 0 {
		fresh.Elem().Set(reflect.MakeMap(t))
		for key, v := range field.Seq2() {
			fresh.Elem().SetMapIndex(key, v)
		}
	}
	dec, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: fresh.Interface(), TagName: "key", ErrorUnused: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(durationHook, numberHook,
			mapstructure.StringToSliceHookFunc(",")),
	})
	if err != nil {
		return fmt.Errorf("decode %s: %w", t, err)
	}
	if err := dec.Decode(value); err != nil {
		return notA(t)
	}
	field.Set(fresh.Elem())
	return nil
}

// itemErrors say what is wrong with single items of a list.
type itemErrors []error

// Error implements error.
func (e itemErrors) Error() string { return errors.Join(e...).Error() }

// setItems puts a list of mappings into a field that is a list of structs, or says what is wrong with each item.
func setItems(field reflect.Value, value any) error {
	list, ok := value.([]any)
	if !ok {
		return errors.New("not a list of mappings, as [{from: 10:00}]")
	}
	fresh := reflect.MakeSlice(field.Type(), len(list), len(list))
	var wrong itemErrors
	for i, item := range list {
		wrong = append(wrong, setItem(fresh.Index(i).Addr().Interface(), i+1, item)...)
	}
	if len(wrong) > 0 {
		return wrong
	}
	field.Set(fresh)
	return nil
}

// setItem fills one struct of a list. number is for messages.
func setItem(target any, number int, item any) (wrong itemErrors) {
	keys, ok := item.(map[string]any)
	if !ok {
		return itemErrors{fmt.Errorf("number %d is %v, and not a mapping of keys to values", number, item)}
	}
	for _, key := range slices.Sorted(mapKeys(keys)) {
		field := kind.Field(target, key)
		if !field.IsValid() {
			wrong = append(wrong, fmt.Errorf("number %d: %s: unknown key%s",
				number, key, suggestion(key, kind.Names(target))))
		} else if err := set(field, keys[key]); err != nil {
			wrong = append(wrong, fmt.Errorf("number %d: %s: %v is %w", number, key, keys[key], err))
		}
	}
	return wrong
}

// written is a value as it may stand in a file, on one line.
func written(value any) string {
	m, ok := value.(map[string]any)
	if !ok {
		return fmt.Sprint(value)
	}
	var parts []string
	for _, key := range slices.Sorted(mapKeys(m)) {
		parts = append(parts, key+": "+written(m[key]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// structured reports whether values are written as YAML where there is only text.
func structured(t reflect.Type) bool {
	return t.Kind() == reflect.Map || t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.String
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
	case to.Kind() == reflect.Bool && isText:
		return strconv.ParseBool(text)
	}
	return value, nil
}

func mapKeys(m map[string]any) iter.Seq[string] { return maps.Keys(m) }

func mapValues(m map[string][]string) [][]string { return slices.Collect(maps.Values(m)) }
