package quota_test

import (
	"testing"
	"time"

	"cloudmaster/services/controller/internal/quota"
)

// TestLines: ten lines of a minute are said, and the first of the next minute tells of all that were not.
func TestLines(t *testing.T) {
	t.Parallel()
	var l quota.Lines
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 25 {
		ok, unsaid := l.May(now.Add(time.Duration(i) * time.Second))
		if want := i < quota.MostAMinute; ok != want || unsaid != 0 {
			t.Errorf("line %d: got %v, %d unsaid, want %v, 0", i, ok, unsaid, want)
		}
	}
	if ok, unsaid := l.May(now.Add(time.Minute)); !ok || unsaid != 15 {
		t.Errorf("in the next minute: got %v, %d unsaid, want true, 15", ok, unsaid)
	}
	if ok, unsaid := l.May(now.Add(time.Minute)); !ok || unsaid != 0 {
		t.Errorf("after that: got %v, %d unsaid, want true, 0", ok, unsaid)
	}
}
