package awssetup

import (
	"context"
	"strings"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob/s3blob"
	"cloudmaster/internal/queue/sqsqueue"
	"cloudmaster/services/controller/internal/config"
)

// planQueues looks at each pool's queues, and at those of the deployment.
func (s *site) planQueues(ctx context.Context, p *plan) error {
	for _, pl := range s.pools() {
		for _, q := range pl.Queues {
			fits := misfit{"pool " + string(pl.Name), "or name another queue in " + q.Key}
			if err := s.planQueue(ctx, p, q, fits); err != nil {
				return err
			}
		}
	}
	for _, q := range s.cfg.Shared() {
		fits := misfit{"the deployment's " + string(q.Use), "or delete it, so that setup makes it"}
		if err := s.planQueue(ctx, p, q, fits); err != nil {
			return err
		}
	}
	return nil
}

// misfit says what a queue of others does not fit, and what to do other than correct it by hand.
type misfit struct{ what, advice string }

// planQueue looks at a queue and its dead letters. These come first, because the queue names them.
func (s *site) planQueue(ctx context.Context, p *plan, q config.Queue, fits misfit) error {
	opts := sqsqueue.Options{Deployment: s.cfg.Deployment}
	dead, main, err := sqsqueue.Inspect(ctx, *s.queues, q.Name, q.Limits)
	if err != nil {
		return err
	}
	s.planOne(p, fits, &dead, func(ctx context.Context) error {
		return sqsqueue.EnsureDeadLetters(ctx, *s.queues, q.Name, opts)
	})
	s.planOne(p, fits, &main, func(ctx context.Context) error {
		_, err := sqsqueue.Ensure(ctx, *s.queues, q.Name, q.Limits, opts)
		return err
	})
	return nil
}

func (s *site) planOne(p *plan, fits misfit, have *sqsqueue.State, ensure func(context.Context) error) {
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
		p.refuse("queue %s was not made by setup for this deployment, and does not fit %s: %s; "+
			"set that by hand, %s", have.Name, fits.what, differs, fits.advice)
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
