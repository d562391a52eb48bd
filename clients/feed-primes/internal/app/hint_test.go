package app_test

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"cloudmaster/clients/feed-primes/internal/app"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
)

// mute is a backend whose queues cannot tell of messages.
type mute struct{ backend.Backend }

func (m mute) Queue(ctx context.Context, name string) (queue.Queue, error) {
	q, err := m.Backend.Queue(ctx, name)
	return struct{ queue.Queue }{q}, err
}

func TestHints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args   []string
		queues []string
		tells  bool // the work queue, by itself
		fail   bool // hints cannot be sent
		want   int
	}{
		"one job":      {args: []string{"1"}, queues: []string{"primes-work", "cloudmaster-hints"}, want: 1},
		"many at once": {args: []string{"3500"}, queues: []string{"primes-work", "cloudmaster-hints"}, want: 2},
		"ten seconds": {
			args: []string{"--rate", "10", "101"}, queues: []string{"primes-work", "cloudmaster-hints"}, want: 11,
		},
		"by the deployment": {
			args:   []string{"--queue", "primes-work-demo"},
			queues: []string{"primes-work-demo", "cloudmaster-demo-hints"},
			want:   1,
		},
		"as it is told": {args: []string{"--hint-queue", "s"}, queues: []string{"primes-work", "s"}, want: 1},
		"none wanted": {
			args: []string{"--hint-queue", ""}, queues: []string{"primes-work", "cloudmaster-hints"},
		},
		"of a name without form": {
			args:   []string{"--queue", "jobs"},
			queues: []string{"jobs", "cloudmaster-hints"},
		},
		"there is no such queue": {args: []string{"3"}, queues: []string{"primes-work", "other"}},
		"cannot be sent": {
			args:   []string{"3"},
			queues: []string{"primes-work", "cloudmaster-hints"}, fail: true,
		},
		"where none is necessary": {
			args:   []string{"3"},
			queues: []string{"primes-work", "cloudmaster-hints"}, tells: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := membackend.New()
				var queues []*memqueue.Queue
				for _, name := range c.queues {
					q, err := b.Ensure(t.Context(), name, queue.Limits{})
					if err != nil {
						t.Fatal(err)
					}
					queues = append(queues, q.(*memqueue.Queue))
				}
				if c.fail {
					queues[1].FailAfter(memqueue.OpSend, 0, io.ErrUnexpectedEOF)
				}
				opened := backend.Backend(mute{b})
				if c.tells {
					opened = b
				}
				open := func(context.Context, *url.URL, backend.Options) (backend.Backend, error) { return opened, nil }
				program := app.Program{Openers: backend.Openers{"mem": open}}
				var stdout, stderr bytes.Buffer
				args := append([]string{"--backend", "mem:x"}, c.args...)
				if err := program.Run(t.Context(), args, &stdout, &stderr); err != nil {
					t.Fatal(err)
				}
				got := queues[1].Bodies()
				if len(got) != c.want ||
					len(got) > 0 && !strings.Contains(got[0], `"type":"hint","queue":"`+c.queues[0]+`"`) {
					t.Errorf("got hints %q, want %d", got, c.want)
				}
				if stderr.Len() != 0 || strings.Count(stdout.String(), "sent ") != len(queues[0].Bodies()) {
					t.Errorf("got %q said and %d jobs, on stderr %q", stdout.String(), len(queues[0].Bodies()),
						stderr.String())
				}
			})
		})
	}
}
