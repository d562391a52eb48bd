package ec2cloud

import (
	"time"

	"golang.org/x/time/rate"
)

// Classify is classify.
func Classify(err error) error { return classify(err) }

// SetNow replaces the clock.
func (c *Cloud) SetNow(now func() time.Time) { c.now = now }

// MaxAttempts is how many attempts are remembered.
const MaxAttempts = maxAttempts

// Remembered counts the attempts that are.
func (c *Cloud) Remembered() (attempts, ages int) {
	return len(c.attempts.byToken), len(c.attempts.age)
}

// Seen counts the instances that are known as ours.
func (c *Cloud) Seen() int { return len(c.seen) }

// SetRate lets so many requests to launch be made a second, and one at once.
func (c *Cloud) SetRate(perSecond float64) { c.rate = rate.NewLimiter(rate.Limit(perSecond), 1) }
