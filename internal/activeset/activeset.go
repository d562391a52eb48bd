// Package activeset is the document that lists the active instances of a pool with their addresses and loads. The
// controller writes it, and allocators read it.
package activeset

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"cloudmaster/internal/pool"
)

// Set is the document. An empty list is a valid set: the pool has no active instance.
type Set struct {
	Pool      pool.Name  `json:"pool"`
	Version   int        `json:"version"` // grows by one with each write
	WrittenAt time.Time  `json:"written_at"`
	Instances []Instance `json:"instances"` // sorted by ID
}

// Instance is one active instance.
type Instance struct {
	ID         pool.InstanceID `json:"id"`
	Address    string          `json:"address"` // host:port
	Load       float64         `json:"load_estimate"`
	ReportedAt time.Time       `json:"reported_at"` // when the instance wrote the status that Load is from
}

// Key returns the blob key of a pool's set.
func Key(name pool.Name) string { return "active-set/" + string(name) + "-instances" }

// Encode writes the document: sorted by id, times in UTC, one line, ending in a newline. It does not change the set
// that it is given.
func Encode(s Set) ([]byte, error) {
	s.WrittenAt = s.WrittenAt.UTC()
	s.Instances = slices.Clone(s.Instances)
	for i := range s.Instances {
		s.Instances[i].ReportedAt = s.Instances[i].ReportedAt.UTC()
	}
	slices.SortFunc(s.Instances, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
	if s.Instances == nil {
		s.Instances = []Instance{} // "[]", not "null": an empty list is a valid set
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("encode active set: %w", err)
	}
	out, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode active set: %w", err)
	}
	return append(out, '\n'), nil
}

// Decode reads a document. It returns an error if the pool or the list is missing, the version is negative, ids are
// unsorted or repeated, a load is not a valid load, or anything follows the document. Unknown keys are ignored, so
// that an old allocator can read what a newer controller writes. An instance without an address is valid.
func Decode(data []byte) (Set, error) {
	var s Set
	if err := json.Unmarshal(data, &s); err != nil { // a json.Decoder would accept a stray "}" after the document
		return Set{}, fmt.Errorf("decode active set: %w", err)
	}
	if err := s.check(); err != nil {
		return Set{}, fmt.Errorf("decode active set: %w", err)
	}
	return s, nil
}

func (s *Set) check() error {
	if s.Pool == "" {
		return errors.New("pool is missing")
	}
	if s.Version < 0 {
		return fmt.Errorf("version is %d", s.Version)
	}
	if !writable(s.WrittenAt) {
		return fmt.Errorf("written_at is %v", s.WrittenAt)
	}
	if s.Instances == nil {
		return errors.New("instances is missing")
	}
	for i := range s.Instances {
		in := &s.Instances[i]
		switch {
		case in.ID == "":
			return fmt.Errorf("instance %d has no id", i)
		case !utf8.ValidString(string(in.ID)):
			// JSON would replace the bytes, and two ids could become one.
			return fmt.Errorf("instance %d has the id %q, which is not UTF-8", i, in.ID)
		case i > 0 && in.ID <= s.Instances[i-1].ID:
			return fmt.Errorf("instance %s is not in order", in.ID)
		case !pool.ValidLoad(in.Load):
			return fmt.Errorf("instance %s has load %v", in.ID, in.Load)
		case !writable(in.ReportedAt):
			return fmt.Errorf("instance %s has reported_at %v", in.ID, in.ReportedAt)
		}
	}
	return nil
}

// writable reports whether a time can be written in UTC: RFC 3339 has four digits for the year.
func writable(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 0 && year <= 9999
}
