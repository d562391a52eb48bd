package report_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/report"
)

// TestWarmIsReported: what becomes of the warm pool is told to people and machines.
func TestWarmIsReported(t *testing.T) {
	t.Parallel()
	r := &record.Record{
		Pool: "fib", Tell: true,
		Starts: []record.Start{
			{Instance: "i-1", Outcome: record.StartAccepted},
			{Instance: "i-2", Outcome: record.StartRefused, Reason: "capacity", Error: "no room"},
			{Instance: "i-3", Outcome: record.StartUnknown, Again: true, Error: "away"},
		},
		Endings: []record.Ending{{Ending: pool.Ending{Instance: "i-4", Cause: pool.Drained}, Act: record.KeepWarm}},
		Warm: []pool.Instance{
			{ID: "i-2", State: pool.Warm}, {ID: "i-4", State: pool.Warm}, {ID: "i-5", State: pool.Warming},
		},
	}
	var lines []string
	events := report.Events(r)
	for i := range events {
		lines = append(lines, events[i].Lines()...)
	}
	want := "Started instance i-1 that was warm\n" +
		"Stopping instance i-4 to keep it warm (drained: draining for 0s, load 0.00)\n" +
		"Instances: 0 Queue Depth: unknown, 3 warm"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	reg := prometheus.NewRegistry()
	report.NewMetrics(reg).Pass(t.Context(), r)
	err := testutil.GatherAndCompare(reg, strings.NewReader(`# HELP cloudmaster_instances Instances by state.
# TYPE cloudmaster_instances gauge
cloudmaster_instances{pool="fib",state="active"} 0
cloudmaster_instances{pool="fib",state="shut_down"} 0
cloudmaster_instances{pool="fib",state="startup"} 0
cloudmaster_instances{pool="fib",state="stopping"} 0
cloudmaster_instances{pool="fib",state="warm"} 2
cloudmaster_instances{pool="fib",state="warming"} 1
# HELP cloudmaster_warm_starts_total Starts of warm instances by outcome.
# TYPE cloudmaster_warm_starts_total counter
cloudmaster_warm_starts_total{outcome="accepted",pool="fib"} 1
cloudmaster_warm_starts_total{outcome="refused",pool="fib"} 1
cloudmaster_warm_starts_total{outcome="unknown",pool="fib"} 1
`), "cloudmaster_instances", "cloudmaster_warm_starts_total")
	if err != nil {
		t.Error(err)
	}
}
