// Package backend turns one address into queues and stored objects:
// "nats://host:4222", "aws://eu-west-1".
//
// A binary links only the adapters whose openers it names:
//
//	backend.Open(ctx, address, backend.Openers{"nats": natsbackend.Open}, backend.Options{…})
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/queue"
)

// Backend is a connection to a message broker and an object store.
type Backend interface {
	// Queue opens an existing queue; queue.ErrNotFound if nobody has created it.
	Queue(ctx context.Context, name string) (queue.Queue, error)

	// Ensure opens a queue, and creates it with its dead letters if it is missing. The limits of an existing
	// queue are changed to those given if the broker can do that. Where programs do not have the right to make
	// queues (AWS), a missing queue is queue.ErrNotFound, and the limits of an existing one stay.
	Ensure(ctx context.Context, name string, limits queue.Limits) (queue.Queue, error)

	// Blobs opens the deployment's store, and creates it if the broker allows it.
	Blobs(ctx context.Context) (blob.Store, error)

	// Close ends the connection, after sending what waits to be sent. Calling it twice is fine.
	Close() error
}

// Notices is an additional ability that a Backend may have: programs of a deployment tell each other what need not be
// stored. A notice reaches those that listen at the moment, in the order of its sender, and may be lost.
type Notices interface {
	// Notify sends a notice to all that listen to the topic, this program included. It does not wait: without an
	// error the notice may be lost as well. The topic has letters, digits, - and _.
	Notify(topic string, data []byte) error

	// Listen calls take for each notice from now on, one after the other, until stop is called. take must not block,
	// and may keep data. It may still be called once while stop returns.
	Listen(topic string, take func(data []byte)) (stop func(), err error)
}

// Options are common to all backends; the zero value works.
type Options struct {
	Deployment string       // its name is part of what the backend names by itself (the store)
	Client     string       // who we are, for the broker's own lists; the program's name
	Log        *slog.Logger // nil discards
	// PolicyFile is the IAM policy with the rights that the program needs on AWS; errors of denied calls name it.
	PolicyFile string
	// Count is called once for each call to the broker's API, for metrics; may be nil.
	Count func(service, operation string, err error)
	// Refused is called for each client that a broker within this process refuses, with the reason, for metrics; may be
	// nil.
	Refused func(reason string)
}

// Opener connects. It waits for a broker that is not there yet, saying so in the
// log, until ctx ends.
type Opener func(ctx context.Context, address *url.URL, opts Options) (Backend, error)

// Openers maps an address's scheme to what opens it.
type Openers map[string]Opener

// Open connects to the backend at address. Its errors do not show the credentials in the address: neither a
// password, nor a token in the place of the user.
func Open(ctx context.Context, address string, openers Openers, opts Options) (Backend, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("backend address %q: %w", Redacted(address), reason(err, address))
	}
	open, ok := openers[u.Scheme]
	if !ok {
		return nil, fmt.Errorf("backend address %q: %s", Redacted(address), openers.hint())
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	b, err := open(ctx, u, opts)
	if err != nil {
		return nil, fmt.Errorf("open backend %s: %w", Redacted(address), err)
	}
	return b, nil
}

// hint tells which addresses are possible.
func (o Openers) hint() string {
	known := slices.Sorted(maps.Keys(o))
	if len(known) == 0 {
		return "this program speaks to no backend"
	}
	return fmt.Sprintf("this program speaks %s, as in nats://HOST:4222 or aws://eu-west-1", strings.Join(known, ", "))
}

// Redacted makes an address safe for logs: it hides all in front of the last "@" but the scheme, and in what follows
// whatever looks like a secret that was written there by mistake. The method Redacted of url.URL would show user names,
// and needs an address that can be parsed.
func Redacted(address string) string {
	const hidden = "xxxxx"
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		scheme, _, ok := strings.Cut(address[:at], "://")
		if !ok {
			return hidden + secret.ReplaceAllString(address[at:], "${1}"+hidden)
		}
		address = scheme + "://" + hidden + address[at:]
	}
	return secret.ReplaceAllString(address, "${1}"+hidden)
}

// secret matches nkey seeds, JWTs, and the values of options with telling names.
var secret = regexp.MustCompile(
	`\bS[A-Z][A-Z2-7]{40,}|\beyJ[A-Za-z0-9_.-]{20,}|(?i:([?&](?:pass|password|pwd|secret|seed|token|nkey|jwt)=))[^&#]*`)

// Secret reports whether a text has something in it that Redacted would hide wherever it stands.
func Secret(text string) bool { return secret.MatchString(text) }

// reason is why an address cannot be parsed, without the address itself, which url.Error repeats. If the address
// has credentials, the reason is a general one, because url.Parse may quote them.
func reason(err error, address string) error {
	if strings.Contains(address, "@") {
		return errors.New("not a URL; characters such as / and % in a password are written %2F and %25")
	}
	if parse, ok := errors.AsType[*url.Error](err); ok {
		return parse.Err
	}
	return err
}
