// Package blob is the port to stored objects with compare-and-set: S3, a
// JetStream key-value bucket, or memory.
//
// # Contract
//
// A store maps keys to values. Keys are non-empty strings of letters, digits and
// - _ . / that neither begin nor end with a slash or a dot and hold no "//" or "..".
// Values are at most MaxSize bytes. Writing other data gives the key a new version; writing
// the same data may keep it (S3's versions name the content). Versions are opaque and compared for equality only. Reads see every write that was confirmed before
// they began. All methods may be called concurrently and honour ctx.
package blob

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The errors that callers act on; ask with errors.Is.
var (
	// ErrNotFound: no such key, or no such store.
	ErrNotFound = errors.New("object not found")
	// ErrConflict: the object is not at the version that the write was conditional on.
	ErrConflict = errors.New("object was changed by another writer")
	// ErrNotModified: a conditional read found the version that the reader has.
	ErrNotModified = errors.New("object not modified")
	// ErrInvalidKey: the key breaks the rule of the package comment.
	ErrInvalidKey = errors.New("invalid key")
	// ErrTooLarge: the value exceeds MaxSize.
	ErrTooLarge = errors.New("object too large")
	// ErrDenied: we may not do this.
	ErrDenied = errors.New("access denied")
	// ErrThrottled: too many calls; the adapter has already retried.
	ErrThrottled = errors.New("throttled")
)

// MaxSize is the largest value every store takes, in bytes.
const MaxSize = 768 << 10

// Version names one state of one object. The zero value means "no object".
type Version string

// Any is the condition of a write that replaces whatever is there.
const Any Version = "*"

// Object is one object as read.
type Object struct {
	Key     string
	Data    []byte // the reader may keep and change it
	Version Version
}

// Store is the port.
type Store interface {
	// Get reads an object. If have is its present version the error is ErrNotModified and
	// nothing is transferred; pass "" to read in any case. A missing key is ErrNotFound.
	Get(ctx context.Context, key string, have Version) (Object, error)

	// Put writes an object if its present version is last: "" means that it must not
	// exist, Any that it does not matter. Otherwise ErrConflict, and nothing is written.
	// It returns the new version. data is not kept.
	Put(ctx context.Context, key string, data []byte, last Version) (Version, error)

	// Delete removes an object. Removing what is not there is success.
	Delete(ctx context.Context, key string) error
}

// CheckKey returns ErrInvalidKey, wrapped with what is wrong, for a key that breaks
// the rule of the package comment. Adapters call it first.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: it is empty", ErrInvalidKey)
	}
	for _, r := range key {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./", r)
		if !ok {
			return fmt.Errorf("%w: %q has the character %q", ErrInvalidKey, key, r)
		}
	}
	if strings.Trim(key, "/.") != key || strings.Contains(key, "//") || strings.Contains(key, "..") {
		return fmt.Errorf("%w: %q has an empty or dotted part", ErrInvalidKey, key)
	}
	return nil
}
