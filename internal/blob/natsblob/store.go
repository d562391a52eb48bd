// Package natsblob keeps objects in a NATS JetStream key-value bucket: each object is a key, and
// its revision is its version.
//
// Keys are stored unchanged, because the rule for blob keys is stricter than the broker's. The
// broker must accept messages a little larger than blob.MaxSize. Its setting max_payload decides;
// the default of 1 MiB is enough.
package natsblob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/blob"
)

var _ blob.Store = (*Store)(nil)

// Store is one bucket, opened with Open.
type Store struct {
	bucket string
	kv     jetstream.KeyValue
	stream jetstream.Stream // the stream that stores the bucket
	// epoch identifies this bucket, so that a version of an earlier bucket of the same name, where the
	// same revision meant other data, is not mistaken for one of this bucket.
	epoch string
	opts  Options
}

// Options are the settings of a store; the zero value works.
type Options struct {
	// Replicas is how many brokers of a cluster keep the store; 0 means 1. It is used only when Open
	// creates the store.
	Replicas int
	// Count is called after each call to the broker, with its outcome; nil counts nothing.
	Count func(operation string, err error)
}

var validBucket = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// Open opens a bucket, and creates it if it does not exist.
func Open(ctx context.Context, js jetstream.JetStream, bucket string, opts Options) (*Store, error) {
	if !validBucket.MatchString(bucket) {
		return nil, fmt.Errorf("store name %q: use 1 to 200 of the characters A-Z a-z 0-9 _ and -", bucket)
	}
	if opts.Count == nil {
		opts.Count = func(string, error) {}
	}
	s := &Store{bucket: bucket, opts: opts}
	if err := s.open(ctx, js); err != nil {
		return nil, fmt.Errorf("open store %s: %w", bucket, classify(err))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.Stream(ctx, "KV_"+s.bucket)
	s.opts.Count("stream_info", err)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, bucketConfig(s.bucket, cmp.Or(s.opts.Replicas, 1)))
		s.opts.Count("create_store", err)
	}
	if err != nil {
		return err
	}
	s.stream = stream
	s.epoch = strconv.FormatInt(stream.CachedInfo().Created.UnixNano(), 36)
	s.kv, err = js.KeyValue(ctx, s.bucket)
	return err
}

// bucketConfig returns what nats.go itself creates for a bucket, except AllowDirect. With
// AllowDirect any replica would answer reads, also one that has not received the latest write yet.
func bucketConfig(bucket string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              "KV_" + bucket,
		Description:       "CloudMaster objects",
		Subjects:          []string{subject(bucket, ">")},
		MaxMsgsPerSubject: 1,
		AllowRollup:       true,
		DenyDelete:        true,
		Discard:           jetstream.DiscardNew,
		Storage:           jetstream.FileStorage,
		Replicas:          replicas,
	}
}

func subject(bucket, key string) string { return "$KV." + bucket + "." + key }

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, key string, have blob.Version) (blob.Object, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Object{}, fmt.Errorf("get: %w", err)
	}
	if err := s.checkModified(ctx, key, have); err != nil {
		return blob.Object{}, fmt.Errorf("get %s: %w", key, err)
	}
	entry, err := s.kv.Get(ctx, key)
	s.opts.Count("get", err)
	if err != nil {
		return blob.Object{}, fmt.Errorf("get %s: %w", key, classify(err))
	}
	version := s.version(entry.Revision())
	if version == have {
		return blob.Object{}, fmt.Errorf("get %s: %w", key, blob.ErrNotModified)
	}
	return blob.Object{Key: key, Data: entry.Value(), Version: version}, nil
}

// checkModified returns blob.ErrNotModified if have is the present version. It asks for what was
// written to the key after have, so that an unchanged value is not transferred.
func (s *Store) checkModified(ctx context.Context, key string, have blob.Version) error {
	revision, ok := s.revision(have)
	if !ok {
		return nil
	}
	_, err := s.stream.GetMsg(ctx, revision+1, jetstream.WithGetMsgSubject(subject(s.bucket, key)))
	s.opts.Count("get_newer", err)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return blob.ErrNotModified
	}
	return nil // modified, or unknown: then Get reads it
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error) {
	if err := blob.CheckKey(key); err != nil {
		return "", fmt.Errorf("put: %w", err)
	}
	if len(data) > blob.MaxSize {
		return "", fmt.Errorf("put %s: %w: it has %d bytes, the limit is %d",
			key, blob.ErrTooLarge, len(data), blob.MaxSize)
	}
	revision, err := s.put(ctx, key, data, last)
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	return s.version(revision), nil
}

func (s *Store) put(ctx context.Context, key string, data []byte, last blob.Version) (revision uint64, err error) {
	operation := "update"
	switch last {
	case blob.Any:
		operation = "put"
		revision, err = s.kv.Put(ctx, key, data)
	case "":
		operation = "create"
		revision, err = s.kv.Create(ctx, key, data)
	default:
		expected, ok := s.revision(last)
		if !ok {
			return 0, blob.ErrConflict // the version is not of this bucket
		}
		revision, err = s.kv.Update(ctx, key, data, expected)
	}
	s.opts.Count(operation, err)
	return revision, classify(err)
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	err := s.kv.Delete(ctx, key)
	s.opts.Count("delete", err)
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, classify(err))
	}
	return nil
}

func (s *Store) version(revision uint64) blob.Version {
	return blob.Version(s.epoch + "." + strconv.FormatUint(revision, 10))
}

// revision is the inverse of version. ok is false for a version that this bucket never gave.
func (s *Store) revision(v blob.Version) (revision uint64, ok bool) {
	epoch, number, _ := strings.Cut(string(v), ".")
	revision, err := strconv.ParseUint(number, 10, 64)
	return revision, err == nil && epoch == s.epoch && revision > 0
}
