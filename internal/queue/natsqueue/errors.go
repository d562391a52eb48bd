package natsqueue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/queue"
)

// Codes of the broker's API that nats.go has no names for.
const (
	codeInsufficientResources = 10023
	codeMemoryResources       = 10028
	codeStorageResources      = 10047
	codeStreamStoreFailed     = 10077
)

// errNoAnswer means that the broker did not answer in time. It may have done what we asked
// nevertheless.
var errNoAnswer = errors.New("the broker does not answer")

// errInterrupted means that there was no answer because the connection was lost, or because the
// broker abandoned the request.
var errInterrupted = errors.New("the broker went away before it answered")

// classify wraps err in the port's error of the same meaning, if there is one.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case notFound(err):
		return fmt.Errorf("%w: %w", queue.ErrNotFound, err)
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return fmt.Errorf("%w: %w", queue.ErrTooLarge, err)
	case errors.Is(err, nats.ErrPermissionViolation), errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("%w: %w", queue.ErrDenied, err)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return fmt.Errorf("%w: %w", queue.ErrClosed, err)
	case throttled(err):
		return fmt.Errorf("%w: %w", queue.ErrThrottled, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, jetstream.ErrAsyncPublishTimeout):
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return err
}

func notFound(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) ||
		errors.Is(err, jetstream.ErrConsumerNotFound) ||
		errors.Is(err, jetstream.ErrConsumerDeleted) ||
		errors.Is(err, jetstream.ErrConsumerDoesNotExist)
}

func throttled(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 429
	}
	return errors.Is(err, jetstream.ErrTooManyStalledMsgs)
}

// transient reports whether the same call may succeed a moment later.
func transient(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		// 503 means that there is no leader, or that JetStream is starting. A full disk is also reported
		// as 503, but waiting does not help there.
		return api.Code == 429 || api.Code == 503 && !full(api.ErrorCode)
	}
	for _, e := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionReconnecting,
		nats.ErrReconnectBufExceeded, nats.ErrStaleConnection, context.DeadlineExceeded,
		jetstream.ErrNoStreamResponse, jetstream.ErrAsyncPublishTimeout, jetstream.ErrTooManyStalledMsgs,
		errNoAnswer, errInterrupted, errOthersFirst,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func full(code jetstream.ErrorCode) bool {
	return code == codeInsufficientResources || code == codeMemoryResources ||
		code == codeStorageResources || code == codeStreamStoreFailed
}
