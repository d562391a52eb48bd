package ec2

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"cloudmaster/integration/aws/call"
)

// list returns the values of name.1, name.2 and so on.
func list(form url.Values, name string) []string {
	var out []string
	for i := 1; form.Has(name + "." + strconv.Itoa(i)); i++ {
		out = append(out, form.Get(name+"."+strconv.Itoa(i)))
	}
	return out
}

// each calls do with the prefix of each element of a list of structures, such as "Filter.1."; field is one that every
// element has.
func each(form url.Values, name, field string, do func(prefix string)) {
	for i := 1; ; i++ {
		prefix := name + "." + strconv.Itoa(i) + "."
		if !form.Has(prefix + field) {
			return
		}
		do(prefix)
	}
}

// formTags reads the tags below a prefix such as "Tag".
func formTags(form url.Values, name string) map[string]string {
	out := make(map[string]string)
	each(form, name, "Key", func(prefix string) { out[form.Get(prefix+"Key")] = form.Get(prefix + "Value") })
	return out
}

// tagSpecifications reads the tags for each type of resource that a call makes.
func tagSpecifications(form url.Values) map[string]map[string]string {
	out := make(map[string]map[string]string)
	each(form, "TagSpecification", "ResourceType", func(prefix string) {
		out[form.Get(prefix+"ResourceType")] = formTags(form, prefix+"Tag")
	})
	return out
}

// number reads a whole number that is not below zero.
func number(form url.Values, name string) (int, error) {
	text := form.Get(name)
	if text == "" {
		return 0, call.Errorf("MissingParameter", "The request must contain the parameter %s", name)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, call.Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid.", text, name)
	}
	return n, nil
}

// fields are what filters compare: the values of a filter's name, and false if there is no filter of that name.
type fields func(name string) (values []string, known bool)

// passes reports whether something passes all filters of a request. The values of a filter may hold * and ?.
func passes(form url.Values, tags map[string]string, of fields) (bool, error) {
	ok := true
	var err error
	each(form, "Filter", "Name", func(prefix string) {
		name := form.Get(prefix + "Name")
		have, known := tagFields(tags, name)
		if !known {
			have, known = of(name)
		}
		if !known {
			err = call.Errorf("InvalidParameterValue", "The filter '%s' is invalid", name)
			return
		}
		ok = ok && slices.ContainsFunc(list(form, prefix+"Value"), func(want string) bool {
			return slices.ContainsFunc(have, func(v string) bool { return matches(want, v) })
		})
	})
	return ok && err == nil, err
}

// tagFields are the values of the filters of tags.
func tagFields(tags map[string]string, name string) (values []string, known bool) {
	if name == "tag-key" {
		return slices.Collect(maps.Keys(tags)), true
	}
	key, ok := strings.CutPrefix(name, "tag:")
	if !ok {
		return nil, false
	}
	if value, has := tags[key]; has {
		return []string{value}, true
	}
	return nil, true
}

// matches compares a value with a filter's, in which * stands for any text and ? for any character.
func matches(want, have string) bool {
	if want == have {
		return true
	}
	// A slash ends what * covers in paths, but not in filters.
	const slash = "\x00"
	want = strings.NewReplacer("/", slash, "[", `\[`).Replace(want)
	ok, err := path.Match(want, strings.ReplaceAll(have, "/", slash))
	return ok && err == nil
}

// page cuts a list at the request's NextToken and MaxResults. The token of the next page is empty at the end.
func page[T any](form url.Values, all []T) (part []T, next string, err error) {
	from, size := 0, len(all)
	if text := form.Get("NextToken"); text != "" {
		if _, err := fmt.Sscanf(text, "from-%d", &from); err != nil || from > len(all) || from < 0 {
			return nil, "", call.Errorf("InvalidNextToken", "The token '%s' is invalid", text)
		}
	}
	if form.Has("MaxResults") {
		if size, err = number(form, "MaxResults"); err != nil {
			return nil, "", err
		}
	}
	to := min(len(all), from+size)
	if to < len(all) {
		next = fmt.Sprintf("from-%d", to)
	}
	return all[from:to], next, nil
}
