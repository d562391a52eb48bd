package desired

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

const (
	// remakeGap is the shortest time between two attempts to make a queue anew.
	remakeGap = 10 * time.Second
	// remakeTimeout bounds how long an attempt holds up the task that misses its queue.
	remakeTimeout = 5 * time.Second
)

// upkeep makes one queue of a pool anew after somebody has deleted it. It belongs to the task that reads the queue.
type upkeep struct {
	pool  pool.Name
	queue Queue
	open  func(ctx context.Context, name string, limits queue.Limits) (queue.Queue, error)
	log   *slog.Logger

	next   time.Time // when the next attempt may be made
	failed bool      // the last attempt failed, and the log says so
}

func (u *unit) upkeep(q Queue) *upkeep {
	return &upkeep{pool: u.want.Name, queue: q, open: u.parts.OpenQueue, log: u.parts.Log}
}

// check makes the queue anew if err says that it does not exist. Those who have it open find it again by themselves.
// Where programs may not make queues, somebody else has to, and the log says how.
func (k *upkeep) check(ctx context.Context, now time.Time, err error) {
	if !errors.Is(err, queue.ErrNotFound) || now.Before(k.next) {
		return
	}
	k.next = now.Add(remakeGap)
	ctx, cancel := context.WithTimeout(ctx, remakeTimeout)
	defer cancel()
	_, err = k.open(ctx, k.queue.Name, k.queue.Limits)
	switch {
	case err == nil:
		k.log.WarnContext(ctx, "a queue was deleted while it was in use; it is there again, and what it held is lost",
			"pool", string(k.pool), "queue", k.queue.Name)
	case !k.failed:
		k.log.ErrorContext(ctx, "a queue was deleted while it was in use, and cannot be made anew; trying again",
			"pool", string(k.pool), "queue", k.queue.Name, "error", err)
	}
	k.failed = err != nil
}
