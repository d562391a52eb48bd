package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/report"
)

// intent is a launch that is wanted. Its token stays until the cloud has answered,
// so that a launch whose answer was lost is asked for again, not made twice.
type intent struct {
	token   string
	at      time.Time // when it was first asked for; part of what the token stands for
	asked   time.Time // when it was last asked for
	count   int
	started []pool.InstanceID // what the cloud has told of so far

	// Of the last attempts, also of tokens before this one:
	failures  int
	notBefore time.Time
	err       error
}

const launchBackoff = time.Second

// launchInstances launches n instances, of which the start limit pays for some.
func (l *Loop) launchInstances(ctx context.Context, n, paid int) error {
	now := time.Now()
	switch {
	case n == 0:
		return nil
	case now.Before(l.launch.notBefore):
		return l.launch.err
	case l.held(ctx):
		return nil
	}
	if err := l.intend(n, now); err != nil {
		return err
	}
	if err := l.journal.write(ctx, entry{Token: l.launch.token, Count: l.launch.count, At: now.UTC()}); err != nil {
		return l.unwritten(err)
	}
	launched, err := l.callLaunch(ctx)
	l.roster.Launched(launched, time.Now())
	free := n - paid
	for i := range launched {
		id := launched[i].ID
		if slices.Contains(l.launch.started, id) {
			continue // told of when the launch was cut short
		}
		l.launch.started = append(l.launch.started, id)
		if free--; free < 0 {
			l.budget.started(now)
		}
		l.report(ctx, report.Event{Kind: report.Started, Instance: id})
		l.metrics.launched()
	}
	return l.settleLaunch(err, time.Now())
}

// intend settles which launch to ask for: an unanswered one again, or a new one.
// Neither may be more than is wanted now, nor lead past the maximum.
func (l *Loop) intend(n int, now time.Time) error {
	open := l.launch.token != ""
	if open && l.deps.Inventory.Latest().At.After(l.launch.asked.Add(l.deps.ListLag)) {
		open = false // lists show by now what it started, if anything, and n is counted with that
	}
	count := n
	if open {
		count = l.launch.count - len(l.launch.started)
	}
	if count > n {
		return fmt.Errorf("launch %d instances: it is not known yet whether a launch of %d took effect: %w", n, l.launch.count, l.launch.err)
	}
	// What should have made room may have failed: until the cloud has taken the word, it has not.
	if there := l.roster.Present(); there+count > l.cfg.Maximum {
		return fmt.Errorf("launch %d instances: there are %d yet, the most is %d", count, there, l.cfg.Maximum)
	}
	if !open {
		l.launch = intent{token: l.journal.token(), at: now, count: n, failures: l.launch.failures}
	}
	return nil
}

// unwritten puts a launch off that is not in the journal. One that the cloud was not asked
// for yet is forgotten, so that it is not taken for one without an answer.
func (l *Loop) unwritten(err error) error {
	err = fmt.Errorf("launch %d instances: %w", l.launch.count, err)
	if l.launch.asked.IsZero() {
		l.launch.token = ""
	}
	return err
}

func (l *Loop) callLaunch(ctx context.Context) ([]cloud.Instance, error) {
	l.launch.asked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	return l.deps.Cloud.Launch(ctx, cloud.Spec{
		Token: l.launch.token, Count: l.launch.count, Image: l.cfg.Image, UserData: l.deps.UserData,
		Tags: map[string]string{
			cloud.TagPool: string(l.cfg.Name), cloud.TagState: pool.Startup.String(),
			cloud.TagStateSince: l.launch.at.UTC().Format(time.RFC3339Nano), cloud.TagLaunch: l.launch.token,
		},
	})
}

// settleLaunch forgets the intent when the cloud has answered. An error outside the
// port's set leaves open whether the launch took effect, so the token stays.
func (l *Loop) settleLaunch(err error, now time.Time) error {
	if err == nil {
		l.launch = intent{}
		return nil
	}
	l.metrics.launchFailed(err)
	if answered(err) {
		l.launch.token = ""
	}
	l.launch.failures++
	l.launch.notBefore = now.Add(min(launchBackoff<<min(l.launch.failures-1, 10), l.cfg.PolicyInterval))
	l.launch.err = fmt.Errorf("launch %d instances: %w", l.launch.count, err)
	return l.launch.err
}

// answered reports whether the cloud has certainly decided about a launch.
func answered(err error) bool {
	for _, known := range []error{cloud.ErrCapacity, cloud.ErrDenied, cloud.ErrNotFound, cloud.ErrInvalid, cloud.ErrConflict} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
