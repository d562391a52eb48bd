package awssetup

import (
	"context"
	"strings"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob/s3blob"
	"cloudmaster/internal/queue/sqsqueue"
	"cloudmaster/services/controller/internal/config"
)

// planQueues looks at each pool's queues. The dead letters come first, because a queue names them.
func (s *site) planQueues(ctx context.Context, p *plan) error {
	opts := sqsqueue.Options{Deployment: s.cfg.Deployment}
	for _, pl := range s.pools() {
		for _, q := range pl.Queues {
			dead, main, err := sqsqueue.Inspect(ctx, *s.queues, q.Name, q.Limits)
			if err != nil {
				return err
			}
			s.planQueue(p, pl, q.Key, &dead, func(ctx context.Context) error {
				return sqsqueue.EnsureDeadLetters(ctx, *s.queues, q.Name, opts)
			})
			s.planQueue(p, pl, q.Key, &main, func(ctx context.Context) error {
				_, err := sqsqueue.Ensure(ctx, *s.queues, q.Name, q.Limits, opts)
				return err
			})
		}
	}
	return nil
}

func (s *site) planQueue(
	p *plan, pl *config.Pool, key string, have *sqsqueue.State, ensure func(context.Context) error,
) {
	t := thing{kind: kindQueue, name: have.Name}
	differs := strings.Join(have.Differs, ", ")
	ours := awsconf.Ours(have.Tags, s.cfg.Deployment)
	switch {
	case !have.Exists:
		t.verb, t.do = create, ensure
	case p.refuseOthers(kindQueue, have.Name, s.cfg.Deployment, have.Tags):
		return
	case ours && differs != "":
		t.verb, t.note, t.do = change, differs, ensure
	case ours:
		t.verb = keep
	case differs != "":
		p.refuse("queue %s was not made by setup for this deployment, and does not fit pool %s: %s; "+
			"set that by hand, or name another queue in %s",
			have.Name, pl.Name, differs, key)
		return
	default:
		t.verb, t.note = use, notOurs
	}
	p.add(t)
}

// planBucket looks at the bucket.
func (s *site) planBucket(ctx context.Context, p *plan) error {
	have, err := s3blob.Inspect(ctx, *s.queues, s.bucket, s.account)
	if err != nil {
		return err
	}
	if p.refuseOthers(kindBucket, s.bucket, s.cfg.Deployment, have.Tags) {
		return nil
	}
	t := thing{kind: kindBucket, name: s.bucket, verb: keep}
	switch ours := awsconf.Ours(have.Tags, s.cfg.Deployment); {
	case !have.Exists:
		t.verb = create
		t.do = func(ctx context.Context) error { return s3blob.Create(ctx, *s.queues, s.bucket, s.cfg.Deployment) }
	case !ours:
		t.verb, t.note = use, notOurs
	case len(have.Differs) > 0:
		t.verb, t.note = change, strings.Join(have.Differs, ", ")
		t.do = func(ctx context.Context) error { return s3blob.Protect(ctx, *s.queues, s.bucket) }
	}
	p.add(t)
	return nil
}
