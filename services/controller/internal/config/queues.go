package config

import (
	"cmp"
	"regexp"
	"strings"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

const (
	// ownDeliveries is for what the controller itself receives: it may be restarted often while messages
	// wait, and none of them is to blame for it.
	ownDeliveries = 1000
	// ownRetention bounds what a controller finds that was away for long. It is the longest time of SQS, because
	// results of jobs wait on the status queue, too.
	ownRetention = 14 * 24 * time.Hour
)

// queues are those of a pool. orders is the name of the queue of operators' orders as it is configured.
func (p *poolKeys) queues(name pool.Name, deployment, orders string, traits policy.Traits) []Queue {
	called := func(configured, fallback string) string {
		called := cmp.Or(configured, string(name)+"-"+fallback)
		if deployment != "" {
			called += "-" + deployment
		}
		return called
	}
	work := queue.Limits{Visibility: p.VisibilityTimeout, Deliveries: p.MaxDeliveries}
	if traits.TakesRequests {
		work.Deliveries = ownDeliveries // the controller takes them, and hands them back when it stops
	}
	// Statuses and orders are taken in whatever they hold: they are delivered again only if a controller died.
	own := queue.Limits{Deliveries: ownDeliveries, Retention: ownRetention}
	list := []Queue{
		{Work, "work_queue_name", called(p.WorkQueue, "work"), work},
		{Status, "status_queue_name", called(p.StatusQueue, "status"), own},
	}
	if key := traits.Orders; key != "" {
		word, _, _ := strings.Cut(key, "_")
		list = append(list, Queue{Orders, key, called(orders, word), own})
	}
	return list
}

// queueName is what SQS and JetStream both take.
var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,70}$`)

// validateQueues checks the names of a pool's queues. taken are the names of those before it, with their uses.
func (r *reader) validateQueues(p *Pool, taken map[string]string) {
	for _, q := range p.Queues {
		path := []string{keyPools, string(p.Name), q.Key}
		if !queueName.MatchString(q.Name) {
			r.complain(path, "%q is not a queue name: letters, digits, - and _, at most 70", q.Name)
		}
		what := strings.TrimSuffix(strings.ReplaceAll(q.Key, "_", " "), " name") + " of " + string(p.Name)
		dead := queue.DeadLetters(q.Name)
		for name, use := range map[string]string{q.Name: "the " + what, dead: "for the dead letters of the " + what} {
			if other, ok := taken[name]; ok {
				r.complain(path, "%s is already %s", name, other)
			}
			taken[name] = use
		}
	}
}
