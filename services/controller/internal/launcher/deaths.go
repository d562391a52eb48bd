package launcher

import (
	"fmt"
	"time"

	"cloudmaster/internal/pool"
)

const (
	// mostDeaths is how many instances in a row may end before they report, until launches pause. One or two may be
	// the cloud's accident; more of them have a cause that the next one will meet, too, and each costs money.
	mostDeaths = 3
	// The pause grows from leastDeathPause to mostDeathPause.
	leastDeathPause, mostDeathPause = time.Minute, 30 * time.Minute
)

// deaths are the instances that have ended, one after the other, before they ever reported.
type deaths struct {
	row    int
	last   pool.Ending
	before time.Time // nothing is launched before this
}

// Died notes that instances that this launcher has launched ended before they ever reported, although nobody told them
// to. After a few in a row launches pause, longer and longer, and then start one instance at a time, to see whether it
// lives.
func (l *Launcher) Died(list []pool.Ending, now time.Time) {
	if len(list) == 0 {
		return
	}
	d := &l.deaths
	d.row, d.last = d.row+len(list), list[len(list)-1]
	d.rest(now)
}

// Lives notes that an instance has reported for the first time, so that launches need not pause any more.
func (l *Launcher) Lives() { l.deaths = deaths{} }

// rest begins a pause if there were too many deaths.
func (d *deaths) rest(now time.Time) {
	if over := d.row - mostDeaths; over >= 0 {
		d.before = now.Add(min(leastDeathPause<<min(over, 10), mostDeathPause))
	}
}

// check returns how many of the wanted instances may be launched now, or why none may.
func (d *deaths) check(count int, now time.Time) (int, error) {
	if d.row < mostDeaths {
		return count, nil
	}
	if now.Before(d.before) {
		return 0, fmt.Errorf("launch %d instances: put off until %s, because the last %d ended before they reported: "+
			"%s %s; correct the image, the instance profile or what else keeps them from starting",
			count, d.before.UTC().Format(time.TimeOnly), d.row, d.last.Instance, d.last.Detail())
	}
	return 1, nil
}
