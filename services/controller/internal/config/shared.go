package config

import (
	"maps"
	"slices"
	"time"

	"cloudmaster/internal/hint"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

const (
	hintRetention  = 5 * time.Minute // a hint about what was sent earlier says nothing that a look has not found
	eventRetention = 24 * time.Hour  // what is older than that has happened, or is found by a look at the cloud
)

// Shared are the queues that the deployment has once, beside those of its pools: for hints if the backend's queues
// cannot tell of messages by themselves, and for events if those of a cloud reach the backend.
func (c *Config) Shared() []Queue {
	var out []Queue
	if !c.Backend.Kind.Watches {
		out = append(out, Queue{
			Use: Hints, Name: hint.QueueOf(c.Deployment),
			Limits: queue.Limits{Deliveries: ownDeliveries, Retention: hintRetention},
		})
	}
	if slices.ContainsFunc(slices.Collect(maps.Keys(c.Clouds)), c.Hears) {
		out = append(out, Queue{
			Use: Events, Name: sharedName(c.Deployment, Events),
			Limits: queue.Limits{Deliveries: ownDeliveries, Retention: eventRetention},
		})
	}
	return out
}

// Hears reports whether what a cloud says by itself reaches the deployment's queue for events.
func (c *Config) Hears(name pool.CloudName) bool {
	where, known := c.Clouds[name]
	return known && where.Kind.Events != nil && where.Kind.Events(where.Settings, c.Backend.Address)
}

func sharedName(deployment string, use Use) string {
	if deployment == "" {
		return "cloudmaster-" + string(use)
	}
	return "cloudmaster-" + deployment + "-" + string(use)
}
