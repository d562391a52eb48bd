// Package blob is the port to stored objects with compare-and-set: S3, a JetStream key-value
// bucket, or memory.
//
// # Contract
//
// A store maps keys to values. Keys are non-empty strings of letters, digits and - _ . / that
// neither begin nor end with a slash or a dot and do not contain "//" or "..". Values have at most
// MaxSize bytes. Writing other data gives the key a new version. Writing the same data may keep the
// version, because S3 derives versions from the content. Versions are opaque: compare them for
// equality only. A read sees every write that was confirmed before the read began. All methods may
// be called concurrently, and all return when ctx ends.
package blob

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The errors that callers act on; ask with errors.Is.
var (
	// ErrNotFound: the key, or the whole store, does not exist.
	ErrNotFound = errors.New("object not found")
	// ErrConflict: the write was conditional, and the object is not at the version that it named.
	ErrConflict = errors.New("object was changed by another writer")
	// ErrNotModified: the read was conditional, and the object is still at the version that the reader has.
	ErrNotModified = errors.New("object not modified")
	// ErrInvalidKey: the key breaks the rule in the package comment.
	ErrInvalidKey = errors.New("invalid key")
	// ErrTooLarge: the value exceeds MaxSize.
	ErrTooLarge = errors.New("object too large")
	// ErrDenied: the store does not allow us to do this.
	ErrDenied = errors.New("access denied")
	// ErrThrottled: the store refused because of too many calls. The adapter has already retried.
	ErrThrottled = errors.New("throttled")
)

// MaxSize is the size in bytes of the largest value that every store accepts.
const MaxSize = 768 << 10

// Version identifies one version of one object. The zero value means "no object".
type Version string

// Any is the condition of a write that replaces whatever is there, if anything.
const Any Version = "*"

// Object is one object as it was read.
type Object struct {
	Key     string
	Data    []byte // the reader may keep and change it
	Version Version
}

// Store is the port.
type Store interface {
	// Get reads an object. If have is the object's present version, Get transfers nothing and returns
	// ErrNotModified; pass "" to read in any case. If the key does not exist it returns ErrNotFound.
	Get(ctx context.Context, key string, have Version) (Object, error)

	// Put writes an object if its present version is last, and returns the new version. A last of ""
	// means that the object must not exist, Any that it does not matter. If the condition is not met
	// Put writes nothing and returns ErrConflict. It does not keep data after it has returned.
	Put(ctx context.Context, key string, data []byte, last Version) (Version, error)

	// Delete removes an object. It is not an error if there is none.
	Delete(ctx context.Context, key string) error
}

// CheckKey returns ErrInvalidKey, wrapped with what is wrong, for a key that breaks the rule in the
// package comment. Adapters call it before anything else.
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
