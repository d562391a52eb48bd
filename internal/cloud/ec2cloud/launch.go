package ec2cloud

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Launch implements cloud.Cloud.
func (c *Cloud) Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	out, err := c.launch(ctx, &spec)
	if err != nil {
		err = fmt.Errorf("launch %d of image %q: %w", spec.Count, spec.Image, err)
	}
	return out, err
}

func (c *Cloud) launch(ctx context.Context, spec *cloud.Spec) ([]cloud.Instance, error) {
	if err := done(ctx); err != nil {
		return nil, err
	}
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if spec.Login != nil {
		return nil, cloud.ErrNoLogins
	}
	conf, err := c.opts.of(pool.Name(spec.Tags[cloud.TagPool]))
	if err != nil {
		return nil, err
	}
	var out []cloud.Instance
	var refusals []error
	for _, p := range c.plan(spec, &conf) {
		started, err := c.launchPart(ctx, spec, &conf, &p)
		out = append(out, started...)
		switch {
		case err != nil && !cloud.Refused(err):
			return out, err
		case err != nil:
			refusals = append(refusals, err)
		}
	}
	return out, errors.Join(refusals...)
}

// launchPart asks for a part of a launch, by one choice after the other.
func (c *Cloud) launchPart(ctx context.Context, spec *cloud.Spec, conf *Launch, p *part) ([]cloud.Instance, error) {
	last, begun := c.recall(spec.Token + p.name)
	var no refusals
	for _, try := range order(c.rightFirst(p.tries(spec)), last, begun) {
		try.again = begun && try.suffix == last.suffix
		if no.skips(&try) {
			continue
		}
		if at, resting := c.resting(&try); resting {
			no.add(try.choice, fmt.Errorf("%w: %s", cloud.ErrCapacity, at))
			continue
		}
		out, err := c.ask(ctx, spec, conf, p, &try, last)
		switch {
		case err == nil:
			c.complain(ctx, &no)
			if len(out) < p.count {
				err = fmt.Errorf("%w: %d of %d were started", cloud.ErrCapacity, len(out), p.count)
			}
			return out, err
		case !cloud.Refused(err), errors.Is(err, cloud.ErrConflict), errors.Is(err, cloud.ErrNotAsked),
			try.again && !errors.Is(err, cloud.ErrCapacity): // what was asked before may have started something
			return out, err
		}
		if no.add(try.choice, err); !errors.Is(err, cloud.ErrCapacity) {
			c.wrong(try.choice)
		}
	}
	return nil, no.err()
}

// resting returns why a choice is not asked now. One that may have started something is asked whatever is known of it.
func (c *Cloud) resting(t *try) (rest, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, resting := c.rests.of(t.choice, t.least, c.now())
	return at, resting && !t.again
}

// ask makes one request of a launch.
func (c *Cloud) ask(
	ctx context.Context, spec *cloud.Spec, conf *Launch, p *part, t *try, last attempt,
) ([]cloud.Instance, error) {
	in, err := c.request(ctx, spec, conf, t, last)
	if err != nil {
		return nil, err
	}
	if err := c.rate.Wait(ctx); err != nil {
		return nil, fmt.Errorf("%w: this controller makes %d requests to launch a second: %w", cloud.ErrNotAsked,
			launchRate, err)
	}
	return c.run(ctx, spec, p, in, t)
}

// run makes one request, and remembers the try unless it is certain that it started nothing.
func (c *Cloud) run(
	ctx context.Context, spec *cloud.Spec, p *part, in *ec2.RunInstancesInput, t *try,
) ([]cloud.Instance, error) {
	key, at := spec.Token+p.name, t.attempt(spec.Image, *in.ImageId)
	res, err := c.client.RunInstances(ctx, in)
	if err != nil {
		why := err
		err = classify(err)
		if !t.again || errors.Is(err, cloud.ErrCapacity) {
			c.settle(key, at, err)
		}
		if errors.Is(err, cloud.ErrCapacity) {
			c.refused(ctx, t, why)
		}
		return nil, err
	}
	c.remember(key, at)
	c.granted(t, len(res.Instances))
	out := c.saw(res.Instances)
	c.expireSights()
	return out, nil
}

// settle forgets or remembers a try, as its error demands.
func (c *Cloud) settle(key string, a attempt, err error) {
	switch {
	case errors.Is(err, cloud.ErrNotFound): // images and groups may have been made anew under their names
		c.forgetNames()
		c.forget(key, a)
	case errors.Is(err, cloud.ErrConflict): // the token is taken, possibly by what we remember
	case cloud.Refused(err):
		c.forget(key, a)
	default:
		c.remember(key, a)
	}
}

// refused notes that there was no capacity, and warns of it when it is news.
func (c *Cloud) refused(ctx context.Context, t *try, err error) {
	c.mu.Lock()
	news := c.rests.refuse(t.choice, t.least, awsconf.Code(err), c.now())
	c.mu.Unlock()
	if news {
		c.log.WarnContext(ctx, "EC2 has no capacity; other choices are tried, and this one again in a few minutes",
			"choice", t.String(), "at_least", t.least, "again_after", restTime, "error", err)
	}
}

// granted notes how much capacity a choice had.
func (c *Cloud) granted(t *try, started int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.faults, t.place())
	if started < t.count {
		c.rests.refuse(t.choice, 1, "there was room for fewer than were asked for", c.now())
		return
	}
	c.rests.clear(t.choice)
}
