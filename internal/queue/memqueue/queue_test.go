package memqueue_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/internal/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	var mu sync.Mutex
	made := map[string]*memqueue.Queue{}
	find := func(name string) *memqueue.Queue {
		mu.Lock()
		defer mu.Unlock()
		return made[name]
	}
	queuetest.Run(t, queuetest.Harness{
		Make: func(t *testing.T, limits queue.Limits) queue.Queue {
			name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
			q := memqueue.New(name, limits)
			mu.Lock()
			defer mu.Unlock()
			made[name], made[q.Dead().Name()] = q, q.Dead()
			return q
		},
		Open: func(_ context.Context, name string) (queue.Queue, error) {
			if q := find(name); q != nil {
				return q, nil
			}
			return nil, queue.ErrNotFound
		},
		Ages: func(ctx context.Context, names ...string) (map[string]queue.Age, error) {
			ages := make(map[string]queue.Age)
			for _, name := range names {
				if q := find(name); q != nil {
					age, err := q.Age(ctx)
					if err != nil {
						return nil, err
					}
					ages[name] = age
				}
			}
			return ages, nil
		},
		Remove:        func(_ *testing.T, name string) { find(name).Remove() },
		Unit:          200 * time.Millisecond,
		TooLarge:      memqueue.MaxBody + 1,
		Ordered:       true,
		ExactBacklog:  true,
		InertReceipts: true,
	})
}
