package record_test

import (
	"testing"
	"time"

	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/record"
)

func TestAgesTellOfWhatIsOld(t *testing.T) {
	t.Parallel()
	known := func(oldest time.Duration, atLeast bool) queue.Age {
		return queue.Age{Known: true, Oldest: oldest, AtLeast: atLeast}
	}
	for want, ages := range map[string]record.Ages{
		"": {Work: known(time.Hour-time.Second, false), Dead: queue.Age{Oldest: 99 * time.Hour}},

		"Oldest job or request: 1h0m":       {Work: known(time.Hour, false)},
		"Oldest dead letter: at least 2d4h": {Dead: known(52*time.Hour+time.Minute, true)},
		"Oldest job or request: at least 3h12m, oldest dead letter: 10d0h": {
			Work: known(3*time.Hour+12*time.Minute+59*time.Second, true), Dead: known(240*time.Hour, false),
		},
	} {
		if got := ages.String(); got != want {
			t.Errorf("%+v: got %q, want %q", ages, got, want)
		}
	}
}
