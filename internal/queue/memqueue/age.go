package memqueue

import (
	"context"
	"time"

	"cloudmaster/internal/faults"
	"cloudmaster/internal/queue"
)

// OpAge is the operation of Age, for faults.
const OpAge faults.Op = "age"

// Age returns the age of the oldest message, as queue.Ager has it.
func (q *Queue) Age(ctx context.Context) (queue.Age, error) {
	age := queue.Age{Known: true, Retention: q.retention}
	err := q.call(ctx, OpAge, func() error {
		now := time.Now()
		for _, it := range q.items {
			age.Oldest = max(age.Oldest, now.Sub(it.sentAt))
		}
		return nil
	})
	if err != nil {
		return queue.Age{}, err
	}
	return age, nil
}
