package iampolicy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// test is what an operator does.
type test struct {
	name     string // without its prefix and suffix: StringEquals
	negated  bool
	ifExists bool
	set      string // ForAllValues, ForAnyValue or empty
	// compare reports whether a value of the request is the one of the policy. It gets the value with variables, for
	// those operators whose values are patterns.
	compare func(want []part, have string) bool
	valid   func(want string) bool // whether a policy may have this value; nil if it may have any
}

// Prefixes and suffixes of operators.
const (
	forAll   = "ForAllValues"
	forAny   = "ForAnyValue"
	ifExists = "IfExists"
	null     = "Null"
)

// operators are those that are known. Source: IAM User Guide, "IAM JSON policy elements: Condition operators".
// BinaryEquals is not among them, because no policy that is tested here uses it.
func operators() map[string]test {
	out := map[string]test{
		"StringEquals":           {compare: literally(func(a, b string) bool { return a == b })},
		"StringEqualsIgnoreCase": {compare: literally(strings.EqualFold)},
		"StringLike":             {compare: func(want []part, have string) bool { return match(want, have, false) }},
		"Bool":                   {compare: literally(strings.EqualFold), valid: truth},
		"IpAddress":              {compare: literally(inNetwork), valid: network},
		"ArnEquals":              {compare: arnLike},
		"ArnLike":                {compare: arnLike},
		null:                     {valid: truth},
	}
	for suffix, holds := range map[string]func(int) bool{
		"Equals": func(c int) bool { return c == 0 }, "LessThan": func(c int) bool { return c < 0 },
		"LessThanEquals": func(c int) bool { return c <= 0 }, "GreaterThan": func(c int) bool { return c > 0 },
		"GreaterThanEquals": func(c int) bool { return c >= 0 },
	} {
		out["Numeric"+suffix] = test{compare: ordered(number, holds), valid: reads(number)}
		out["Date"+suffix] = test{compare: ordered(date, holds), valid: reads(date)}
	}
	for positive, negative := range map[string]string{
		"StringEquals": "StringNotEquals", "StringEqualsIgnoreCase": "StringNotEqualsIgnoreCase",
		"StringLike": "StringNotLike", "NumericEquals": "NumericNotEquals", "DateEquals": "DateNotEquals",
		"IpAddress": "NotIpAddress", "ArnEquals": "ArnNotEquals", "ArnLike": "ArnNotLike",
	} {
		t := out[positive]
		t.negated = true
		out[negative] = t
	}
	return out
}

// operator returns the test of an operator as a policy writes it.
func operator(written string) (test, error) {
	set, name, found := strings.Cut(written, ":")
	if !found {
		set, name = "", written
	}
	bare := strings.TrimSuffix(name, ifExists)
	t, ok := operators()[bare]
	if !ok || found && set != forAll && set != forAny || bare == null && bare != written {
		return test{}, fmt.Errorf("condition operator %q is not known: correct it, or teach it to this evaluator",
			written)
	}
	t.name, t.set, t.ifExists = bare, set, bare != name
	return t, nil
}

func conditions(raw map[string]map[string]values) ([]Condition, error) {
	var out []Condition
	for _, op := range slices.Sorted(maps.Keys(raw)) {
		t, err := operator(op)
		if err != nil {
			return nil, err
		}
		for _, key := range slices.Sorted(maps.Keys(raw[op])) {
			c := Condition{Operator: op, Key: key, Values: raw[op][key], test: t}
			if !strings.Contains(key, ":") || len(c.Values) == 0 {
				return nil, fmt.Errorf("condition %s: key %q needs a service in front and at least one value", op, key)
			}
			for _, value := range c.Values {
				if t.valid != nil && !t.valid(value) {
					return nil, fmt.Errorf("condition %s %s: %q is no value for this operator", op, key, value)
				}
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// holds evaluates the condition. Missing keys: only negated operators, IfExists and ForAllValues are content.
func (c *Condition) holds(r *Request, variables bool) (bool, error) {
	have, there := r.value(c.Key)
	there = there && len(have) > 0
	if c.test.name == null {
		return strings.EqualFold(c.Values[0], strconv.FormatBool(!there)), nil
	}
	if !there {
		return c.test.ifExists || c.test.set == forAll || c.test.set == "" && c.test.negated, nil
	}
	if c.test.set == "" && len(have) > 1 {
		return false, fmt.Errorf("condition %s: key %s has %d values in the request, so the operator must begin with "+
			"%s or %s", c.Operator, c.Key, len(have), forAll, forAny)
	}
	one := func(value string) bool { return c.matches(r, variables, value) }
	if c.test.set == forAny {
		return slices.ContainsFunc(have, one), nil
	}
	return !slices.ContainsFunc(have, func(value string) bool { return !one(value) }), nil
}

// matches compares one value of the request with all of the policy: one must be the same, or with a negated operator
// none.
func (c *Condition) matches(r *Request, variables bool, have string) bool {
	found := slices.ContainsFunc(c.Values, func(want string) bool {
		parts, ok := compile(want, r.vars(variables))
		return ok && c.test.compare(parts, have)
	})
	return found != c.test.negated
}

// literally compares texts in which * and ? have no meaning.
func literally(same func(want, have string) bool) func([]part, string) bool {
	return func(want []part, have string) bool {
		var text strings.Builder
		for _, p := range want {
			text.WriteRune(max(p.char, p.wild)) // one of them is 0
		}
		return same(text.String(), have)
	}
}

func ordered[T any](read func(string) (T, func(T) int, error), holds func(int) bool) func([]part, string) bool {
	return literally(func(want, have string) bool {
		limit, _, err := read(want)
		if err != nil {
			return false
		}
		_, compare, err := read(have)
		return err == nil && holds(compare(limit))
	})
}

func reads[T any](read func(string) (T, func(T) int, error)) func(string) bool {
	return func(text string) bool {
		_, _, err := read(text)
		return err == nil
	}
}

// number reads a number, and returns how it compares with others.
func number(text string) (float64, func(float64) int, error) {
	n, err := strconv.ParseFloat(text, 64)
	return n, func(other float64) int {
		switch {
		case n < other:
			return -1
		case n > other:
			return 1
		}
		return 0
	}, err
}

// date reads a time as RFC 3339 or in seconds since 1970.
func date(text string) (time.Time, func(time.Time) int, error) {
	at, err := time.Parse(time.RFC3339, text)
	if seconds, bad := strconv.ParseInt(text, 10, 64); bad == nil {
		at, err = time.Unix(seconds, 0), nil
	}
	return at, at.Compare, err
}

func truth(text string) bool {
	return strings.EqualFold(text, "true") || strings.EqualFold(text, "false")
}

func network(text string) bool {
	_, err := prefix(text)
	return err == nil
}

func prefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return addr.Prefix(addr.BitLen())
}

func inNetwork(want, have string) bool {
	net, err := prefix(want)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(have)
	return err == nil && net.Contains(addr)
}
