package iampolicy

import (
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	st := func(elements string) string { return `{"Version":"2012-10-17","Statement":[{` + elements + `}]}` }
	const fits = `"Effect":"Allow","Action":"a:B","Resource":"*"`
	for name, c := range map[string]struct{ text, want string }{
		"version":        {`{"Version":"2013-01-01","Statement":[{` + fits + `}]}`, "version"},
		"no statement":   {`{"Version":"2012-10-17","Statement":[]}`, "no statement"},
		"element":        {st(fits + `,"Resources":"*"`), "Resources"},
		"twice":          {st(fits + `,"Action":"a:C"`), "twice"},
		"effect":         {st(`"Effect":"allow","Action":"a:B","Resource":"*"`), "effect"},
		"no action":      {st(`"Effect":"Allow","Resource":"*"`), "Action"},
		"both actions":   {st(fits + `,"NotAction":"a:C"`), "NotAction"},
		"bad action":     {st(`"Effect":"Allow","Action":"B","Resource":"*"`), "no action"},
		"no resource":    {st(`"Effect":"Allow","Action":"a:B"`), "Resource"},
		"bad resource":   {st(`"Effect":"Allow","Action":"a:B","Resource":"queue"`), "no resource"},
		"principal":      {st(fits + `,"Principal":"*"`), "Principal"},
		"operator":       {st(fits + `,"Condition":{"StringMatches":{"aws:a":"x"}}`), "StringMatches"},
		"set operator":   {st(fits + `,"Condition":{"ForSome:StringLike":{"aws:a":"x"}}`), "ForSome"},
		"null if exists": {st(fits + `,"Condition":{"NullIfExists":{"aws:a":"true"}}`), "NullIfExists"},
		"number":         {st(fits + `,"Condition":{"NumericEquals":{"aws:a":"ten"}}`), "ten"},
		"key":            {st(fits + `,"Condition":{"StringEquals":{"a":"ten"}}`), "key"},
		"value":          {st(fits + `,"Condition":{"StringEquals":{"aws:a":{}}}`), "no value"},
		"sid":            {st(fits + `,"Sid":"a b"`), "Sid"},
		"two sids":       {`{"Statement":[{` + fits + `,"Sid":"a"},{` + fits + `,"Sid":"a"}]}`, "Sid a"},
		"more":           {st(fits) + `{}`, "follows"},
		"no JSON":        {`{`, ""},
	} {
		if _, err := Parse("x", Identity, []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// naive is the plainest matcher, which the other one must agree with.
func naive(pattern, text string) bool {
	switch {
	case pattern == "":
		return text == ""
	case pattern[0] == '*':
		return naive(pattern[1:], text) || text != "" && naive(pattern, text[1:])
	default:
		return text != "" && (pattern[0] == '?' || pattern[0] == text[0]) && naive(pattern[1:], text[1:])
	}
}

func FuzzLike(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""}, {"*", "abc"}, {"a*b?c", "axxbyc"}, {"**a", "a"}, {"a:*:c", "a:b:c"}, {"?", "ä"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 12 || len(text) > 24 {
			return
		}
		ascii := strings.Map(func(r rune) rune { return 'a' + r%4 }, text)
		small := strings.Map(func(r rune) rune {
			if r == '*' || r == '?' {
				return r
			}
			return 'a' + r%4
		}, pattern)
		if got, want := Like(small, ascii), naive(small, ascii); got != want {
			t.Errorf("%q for %q: got %t, want %t", small, ascii, got, want)
		}
		Like(pattern, text) // must not panic on any bytes
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(allowSend))
	f.Add([]byte(queuePolicy("Deny", `{"AWS":["1"]}`)))
	f.Fuzz(func(_ *testing.T, text []byte) {
		for _, kind := range []Kind{Identity, Resource, Trust} {
			if doc, err := Parse("x", kind, text); err == nil {
				_, _ = Evaluate(&Policies{Identity: []*Document{doc}}, &Request{Action: "a:B", Resource: "*"})
			}
		}
	})
}
