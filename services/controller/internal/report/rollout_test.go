package report_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/report"
)

// rolled is a pass in which a rollout came to a state.
func rolled(state policy.RollingState, text string, changed bool) *record.Record {
	return &record.Record{
		Pool: "p", At: noon, Tell: true,
		Rollout: record.Rollout{Changed: changed, Rolling: policy.Rolling{
			State: state, Text: text, Outdated: map[pool.Drift]int{pool.OtherImage: 3},
		}},
	}
}

// TestRolloutIsTold in the summary, and as a notice of its own when it cannot go on.
func TestRolloutIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state   policy.RollingState
		changed bool
		notices int
	}{
		{policy.Rolls, true, 0},
		{policy.RolloutHalted, true, 1},
		{policy.RolloutHalted, false, 0},
		{policy.RolloutStuck, true, 1},
	} {
		notices, lines := 0, []string(nil)
		events := report.Events(rolled(c.state, "rollout 2 of 5", c.changed))
		for i := range events {
			if events[i].What == report.Noticed {
				notices++
			} else {
				lines = append(lines, events[i].Lines()...)
			}
		}
		if notices != c.notices || !slices.Contains(lines, "rollout 2 of 5") {
			t.Errorf("%s: got %d notices and %q, want %d, and how far it is", c.state, notices, lines, c.notices)
		}
	}
}

// TestRolloutInTheLog: once for each change, with a warning if people are needed, and when it is over.
func TestRolloutInTheLog(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := report.NewDiary(slog.New(slog.NewTextHandler(&out, nil)))
	for _, r := range []*record.Record{
		rolled(policy.Rolls, "rollout 2 of 5", true), rolled(policy.Rolls, "rollout 2 of 5", false),
		rolled(policy.RolloutHalted, "rollout halted: i-1", true), rolled("", "", true),
	} {
		d.Pass(t.Context(), r)
	}
	for text, want := range map[string]int{
		"rollout 2 of 5": 1, "level=WARN msg=rollout": 1, "rollout is over": 1,
	} {
		if got := strings.Count(out.String(), text); got != want {
			t.Errorf("got %q %d times, want %d:\n%s", text, got, want, out.String())
		}
	}
}

func TestRolloutInMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := report.NewMetrics(registry)
	m.Pass(t.Context(), rolled(policy.Rolls, "", false))
	want := `# HELP cloudmaster_outdated_instances Instances that a launch would make otherwise, by reason.
# TYPE cloudmaster_outdated_instances gauge
cloudmaster_outdated_instances{pool="p",reason="image"} 3
cloudmaster_outdated_instances{pool="p",reason="lifetime"} 0
cloudmaster_outdated_instances{pool="p",reason="settings"} 0
cloudmaster_outdated_instances{pool="p",reason="type"} 0
cloudmaster_outdated_instances{pool="p",reason="zone"} 0
`
	err := testutil.GatherAndCompare(registry, strings.NewReader(want), "cloudmaster_outdated_instances")
	if err != nil {
		t.Error(err)
	}
}
