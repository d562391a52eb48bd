package config

import (
	"time"

	"cloudmaster/internal/queue"
)

const (
	// ownDeliveries is for what the controller itself receives: it may be restarted
	// often while messages wait, and none of them is to blame for it.
	ownDeliveries = 1000
	// statusRetention bounds what a controller that is away for long finds waiting.
	statusRetention = 4 * 24 * time.Hour
)

// WorkLimits are those of the pool's work queue.
func (p *Pool) WorkLimits() queue.Limits {
	limits := queue.Limits{Visibility: p.VisibilityTimeout, Deliveries: p.MaxDeliveries}
	if p.Requests() {
		limits.Deliveries = ownDeliveries // we take them, and hand them back when we stop
	}
	return limits
}

// StatusLimits are those of the pool's status queue. Statuses are taken in whatever they
// hold; redelivery is only for a controller that died.
func (p *Pool) StatusLimits() queue.Limits {
	return queue.Limits{Deliveries: ownDeliveries, Retention: statusRetention}
}
