package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

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
		return nil, fmt.Errorf("%s: there is a second document behind the first: %w",
			file, cmp.Or(err, errors.New("only one is read")))
	}
	if len(n.Content) == 0 || n.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: the configuration is not a YAML mapping of keys to values", file)
	}
	return &document{file: file, root: n.Content[0]}, nil
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

func isMapping(n *yaml.Node) bool { return n.Kind == yaml.MappingNode }

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
