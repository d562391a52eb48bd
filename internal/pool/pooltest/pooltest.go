// Package pooltest makes instances from words, so that the fleet of a test case can be read at a glance.
package pooltest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/pool"
)

// Now is the time of every fleet.
var Now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Fleet returns one instance for each word, named i-1, i-2, … in that order:
//
//	starting        launched, never reported
//	idle            active, reported idle
//	busy            active, reported busy at load 0
//	mute            active, has never reported to this controller: just taken over
//	0.8             active at that load
//	draining        shut_down, and has reported since then that it is empty
//	draining:0.4    shut_down at that load
//	stopping        told to end
//
// All were launched two hours ago, entered their state and became active one hour ago, and were heard of a
// second ago. Marks after a word change that:
//
//	/young          launched a minute ago (and active since then)
//	/fresh          became active, or began to drain, a minute ago
//	/now            entered its state five seconds ago
//	/silent         heard of 20 minutes ago
//	/lost           heard of 40 minutes ago
//	/stale          its status is older than its state
//	/leaving        its status says that it is about to end
//	/old            runs another image than a launch would use now
//	/aged           has lived for the maximum lifetime
//	/new            is known to be what a launch would make now
//	/surge          was launched to take the place of an outdated one
func Fleet(tb testing.TB, words string) []pool.Instance {
	tb.Helper()
	var fleet []pool.Instance
	for n, word := range strings.Fields(words) {
		i, err := parse(word)
		if err != nil {
			tb.Fatalf("fleet %q: %v", words, err)
		}
		i.ID = pool.InstanceID(fmt.Sprintf("i-%d", n+1))
		fleet = append(fleet, i)
	}
	pool.SortInstances(fleet) // with ten or more, the order of ids is not the order of words
	return fleet
}

func parse(word string) (pool.Instance, error) {
	hour := Now.Add(-time.Hour)
	i := pool.Instance{
		State: pool.Active, StateSince: hour, ActiveAt: hour, Launched: Now.Add(-2 * time.Hour),
		ReportedAt: Now.Add(-time.Second), HeardAt: Now.Add(-time.Second),
	}
	kind, marks, _ := strings.Cut(word, "/")
	if err := be(&i, kind); err != nil {
		return i, err
	}
	if marks == "" {
		return i, nil
	}
	for mark := range strings.SplitSeq(marks, "/") {
		if err := alter(&i, mark); err != nil {
			return i, err
		}
	}
	return i, nil
}

func be(i *pool.Instance, kind string) error {
	kind, load, loaded := strings.Cut(kind, ":")
	switch kind {
	case "starting":
		i.State, i.ActiveAt, i.ReportedAt = pool.Startup, time.Time{}, time.Time{}
	case "idle":
		i.IdleSince = i.ActiveAt
	case "busy":
		i.Busy = true
	case "mute":
		i.ReportedAt = time.Time{}
	case "draining":
		i.State = pool.ShutDown
	case "stopping":
		i.State = pool.Stopping
	default:
		load, loaded = kind, true
	}
	if !loaded {
		return nil
	}
	var err error
	i.Load, err = strconv.ParseFloat(load, 64)
	i.Busy = i.Load > 0
	return err
}

func alter(i *pool.Instance, mark string) error {
	minute := Now.Add(-time.Minute)
	switch mark {
	case "young":
		i.Launched, i.StateSince = minute, minute
		if i.State != pool.Startup {
			i.ActiveAt = minute
		}
	case "fresh":
		i.StateSince = minute
		if i.State == pool.Active {
			i.ActiveAt = minute
		}
	case "now":
		i.StateSince = Now.Add(-5 * time.Second)
	case "silent":
		i.HeardAt = Now.Add(-20 * time.Minute)
	case "lost":
		i.HeardAt = Now.Add(-40 * time.Minute)
	case "stale":
		i.ReportedAt = i.StateSince.Add(-time.Second)
	case "leaving":
		i.Interrupted = true
	case "old":
		i.Drift = pool.OtherImage
	case "aged":
		i.Drift, i.Current = pool.TooOld, true
	case "new":
		i.Current = true
	case "surge":
		i.Surge = true
	default:
		return fmt.Errorf("no mark /%s", mark)
	}
	return nil
}
