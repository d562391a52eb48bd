package iampolicy

import (
	"strings"
	"unicode/utf8"
)

// part is a piece of a pattern: one character, or a wildcard.
type part struct {
	char rune
	wild rune // 0, '?' or '*'
	far  bool // a * that also stands for colons
}

// compile reads a pattern. Values that variables stand for are taken as they are, without wildcards. It returns false
// if a variable has no value.
func compile(pattern string, vars func(key string) (string, bool)) ([]part, bool) {
	var out []part
	for pattern != "" {
		if end := strings.IndexByte(pattern, '}'); vars != nil && strings.HasPrefix(pattern, "${") && end > 0 {
			text, ok := variable(pattern[len("${"):end], vars)
			if !ok {
				return nil, false
			}
			for _, r := range text {
				out = append(out, part{char: r})
			}
			pattern = pattern[end+1:]
			continue
		}
		r, size := utf8.DecodeRuneInString(pattern)
		out = append(out, wildcard(r))
		pattern = pattern[size:]
	}
	for i := range out {
		out[i].far = i == len(out)-1 || out[i+1].wild == 0 && out[i+1].char == ':'
	}
	return out, true
}

func wildcard(r rune) part {
	if r == '*' || r == '?' {
		return part{wild: r}
	}
	return part{char: r}
}

// variable returns what ${…} stands for: a key's value, the default behind a comma, or a wildcard's own sign.
func variable(name string, vars func(string) (string, bool)) (string, bool) {
	if name == "*" || name == "?" || name == "$" {
		return name, true
	}
	name, fallback, has := strings.Cut(name, ",")
	if value, ok := vars(strings.TrimSpace(name)); ok {
		return value, true
	}
	fallback = strings.TrimSpace(fallback)
	if has && len(fallback) > 1 && fallback[0] == '\'' && fallback[len(fallback)-1] == '\'' {
		return fallback[1 : len(fallback)-1], true
	}
	return "", false
}

// match reports whether a text is what a pattern stands for. If segments is true, the text is an ARN, and a * stands
// for colons only where it ends a segment. Source: IAM User Guide, "IAM JSON policy elements: Resource".
func match(pattern []part, text string, segments bool) bool {
	runes := []rune(text)
	// reach[i] says whether the parts so far stand for the first i characters.
	reach := make([]bool, len(runes)+1)
	reach[0] = true
	for _, p := range pattern {
		next := make([]bool, len(reach))
		next[0] = p.wild == '*' && reach[0]
		for i, r := range runes {
			switch p.wild {
			case '*':
				next[i+1] = reach[i+1] || next[i] && (r != ':' || p.far || !segments)
			case '?':
				next[i+1] = reach[i] && (r != ':' || !segments)
			default:
				next[i+1] = reach[i] && r == p.char
			}
		}
		reach = next
	}
	return reach[len(runes)]
}

// Like reports whether a text is what a pattern with the wildcards * and ? stands for.
func Like(pattern, text string) bool {
	parts, _ := compile(pattern, nil) // without variables it cannot fail
	return match(parts, text, false)
}

// ActionMatches compares actions without regard to case.
func ActionMatches(pattern, action string) bool {
	return Like(strings.ToLower(pattern), strings.ToLower(action))
}

// arnParts is the number of an ARN's parts, which colons separate.
const arnParts = 6

// arnLike compares ARNs part by part. Source: IAM User Guide, "Amazon Resource Name (ARN) condition operators".
func arnLike(pattern []part, text string) bool {
	want, have := split(pattern), strings.SplitN(text, ":", arnParts)
	if len(want) != arnParts || len(have) != arnParts {
		return len(want) == 1 && match(want[0], text, false) // * alone is for all
	}
	for i := range want {
		if !match(want[i], have[i], false) {
			return false
		}
	}
	return true
}

func split(pattern []part) [][]part {
	out := [][]part{nil}
	for _, p := range pattern {
		if p.wild == 0 && p.char == ':' && len(out) < arnParts {
			out = append(out, nil)
			continue
		}
		out[len(out)-1] = append(out[len(out)-1], p)
	}
	return out
}
