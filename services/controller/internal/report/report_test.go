package report_test

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/price"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2026, 11, 22, 10, 0, 0, 0, time.Local)

// shown returns a record and a look at a status queue that together have events of every sort.
func shown() (*record.Record, *record.Intake) {
	idle := pool.Ending{Instance: "i-0123", Cause: pool.IdleSurplus, For: 90 * time.Second}
	pass := &record.Record{
		Pool: "fib", At: noon, Breaker: record.Breaker{Open: true, Changed: true, Silent: 3, Active: 4}, Tell: true,
		Gone: []pool.Ending{{Instance: "i-0aaa", Cause: pool.Outside}, idle},
		Endings: []record.Ending{
			{Ending: pool.Ending{Instance: "i-0bbb", Cause: pool.OverMaximum}, Act: record.StopAgain},
			{Ending: pool.Ending{Instance: "i-0ccc", Cause: pool.OverMaximum}, Act: record.StopAgain, Error: "denied"},
			{
				Ending: pool.Ending{Instance: "i-0ddd", Cause: pool.Hung, For: 10*time.Minute + time.Second},
				Act:    record.Stop,
			},
			{Ending: pool.Ending{Instance: "i-0eee", Cause: pool.LowLoad, Load: 0.2}, Act: record.ShutDown},
			{
				Ending: pool.Ending{Instance: "i-0fff", Cause: pool.LowLoad}, Act: record.ShutDown, Unpublished: true,
				Error: "away",
			},
			{Ending: idle, Act: record.Stop, Spared: true},
			{
				Ending: pool.Ending{Instance: "i-1000", Cause: pool.DrainDeadline, For: time.Hour, Load: 0.5},
				Act:    record.Stop,
			},
		},
		Reactivated: []pool.InstanceID{"i-2000"},
		Launches: []record.Launch{
			{Token: "t", Asked: 2, Started: []pool.InstanceID{"i-3000"}, Reason: "capacity", Error: "no room"},
		},
		Seen: pool.Snapshot{Backlog: pool.Backlog{Known: true, Visible: 3, InFlight: 1}},
		Instances: []pool.Instance{
			{ID: "i-0abc", State: pool.Active, Load: 1, ReportedAt: noon.Add(-29 * time.Second)},
			{ID: "i-0def", State: pool.Startup},
			{ID: "i-0fed", State: pool.ShutDown, Load: 0.304, ReportedAt: noon.Add(time.Second)},
		},
		Ages: record.Ages{
			Work: queue.Age{Known: true, Oldest: 90 * time.Minute},
			Dead: queue.Age{Known: true, Oldest: 26 * time.Hour, AtLeast: true},
		},
		Cost: price.Cost{USD: 0.42, Instances: 3, AtMost: 1, Unknown: 1, Missing: []string{"eu-north-1 x9.huge"}},
	}
	return pass, &record.Intake{
		Pool: "primes", At: noon, Messages: 2, Outcomes: map[string]int{"accepted": 2}, Said: []record.Said{
			{Instance: "i-0abc", Text: "Processed: 1 6573 primes (65809) in 2"},
			{Instance: "i-0abc", Text: "two\nlines \x1b[31mred"},
		},
	}
}

// TestConsole shows every sort of line.
func TestConsole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := report.NewConsole(&out)
	pass, intake := shown()
	c.Pass(t.Context(), pass)
	c.Intake(t.Context(), intake)
	c.Pass(t.Context(), &record.Record{
		Pool: "primes", At: noon, Tell: true, Seen: pool.Snapshot{Backlog: pool.Backlog{Known: true}},
	})
	c.Pass(t.Context(), &record.Record{Pool: "primes", At: noon, Tell: true})
	c.Pass(t.Context(), &record.Record{Pool: "primes", At: noon})
	c.Flush(t.Context())
	golden := filepath.Join("testdata", "console.txt")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestLog has one entry for each event, with its parts as attributes.
func TestLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := report.All{report.NewLog(slog.New(slog.NewJSONHandler(&out, nil)))}
	pass, intake := shown()
	l.Pass(t.Context(), pass)
	l.Intake(t.Context(), intake)
	want := len(report.Events(pass)) + len(report.Sayings(intake))
	if got := strings.Count(out.String(), "\n"); got != want {
		t.Fatalf("got %d lines, want one for each of %d events:\n%s", got, want, out.String())
	}
	for _, want := range []string{
		`"event":"summary","instances":3,"backlog_known":true,"visible":3,"in_flight":1,` +
			`"ages":"Oldest job or request: 1h30m, oldest dead letter: at least 1d2h","cost_usd_per_hour":0.42,` +
			`"cost_at_most":1,"cost_unknown":1`,
		`"event":"started","instance":"i-3000"`,
		`"event":"terminated","instance":"i-0ddd","cause":"hung","detail":"silent for 10m1s"`,
		`"event":"gone","instance":"i-0aaa","cause":"outside","detail":""`,
		`"event":"said","instance":"i-0abc","text":"Processed: 1 6573 primes (65809) in 2"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want it to have %s", out.String(), want)
		}
	}
}

// TestMetrics checks that what a record says is counted once, by act and cause, and forgotten with its pool.
func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := report.NewMetrics(registry)
	pass, intake := shown()
	m.Pass(t.Context(), pass)
	m.Intake(t.Context(), intake)
	want := `
# HELP cloudmaster_cost_instances Instances by what is known of their price.
# TYPE cloudmaster_cost_instances gauge
cloudmaster_cost_instances{pool="fib",price="at_most"} 1
cloudmaster_cost_instances{pool="fib",price="known"} 1
cloudmaster_cost_instances{pool="fib",price="unknown"} 1
# HELP cloudmaster_cost_usd_per_hour What those instances cost that have a price; none if none has one.
# TYPE cloudmaster_cost_usd_per_hour gauge
cloudmaster_cost_usd_per_hour{pool="fib"} 0.42
# HELP cloudmaster_launch_failures_total Launches that failed, by reason.
# TYPE cloudmaster_launch_failures_total counter
cloudmaster_launch_failures_total{pool="fib",reason="capacity"} 1
# HELP cloudmaster_launches_total Instances launched.
# TYPE cloudmaster_launches_total counter
cloudmaster_launches_total{pool="fib"} 1
# HELP cloudmaster_oldest_message_age_seconds Age of the oldest message, as of the last look; none if it is unknown.
# TYPE cloudmaster_oldest_message_age_seconds gauge
cloudmaster_oldest_message_age_seconds{pool="fib",queue="dead"} 93600
cloudmaster_oldest_message_age_seconds{pool="fib",queue="work"} 5400
# HELP cloudmaster_status_messages_total Status and log messages by outcome.
# TYPE cloudmaster_status_messages_total counter
cloudmaster_status_messages_total{outcome="accepted",pool="primes"} 2
# HELP cloudmaster_stops_total Instances shut down or stopped, by act and cause.
# TYPE cloudmaster_stops_total counter
cloudmaster_stops_total{act="shut_down",cause="low_load",pool="fib"} 1
cloudmaster_stops_total{act="stop",cause="drain_deadline",pool="fib"} 1
cloudmaster_stops_total{act="stop",cause="hung",pool="fib"} 1
`
	names := []string{
		"cloudmaster_cost_instances", "cloudmaster_cost_usd_per_hour", "cloudmaster_oldest_message_age_seconds",
		"cloudmaster_launch_failures_total", "cloudmaster_launches_total", "cloudmaster_status_messages_total",
		"cloudmaster_stops_total",
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	unknown := record.Record{Pool: "fib", Cost: price.Cost{Instances: 2, Unknown: 2}}
	m.Pass(t.Context(), &unknown)
	if n, err := testutil.GatherAndCount(registry, "cloudmaster_cost_usd_per_hour"); err != nil || n != 0 {
		t.Errorf("without a price: got %d costs, %v, want none, because 0 would be one", n, err)
	}
	if n, err := testutil.GatherAndCount(registry, "cloudmaster_oldest_message_age_seconds"); err != nil || n != 0 {
		t.Errorf("unknown ages: got %d, %v, want none, because 0 would be one", n, err)
	}
	m.Forget("fib")
	m.Forget("primes")
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("after the pools were forgotten: got %d metrics, %v, want none", len(families), err)
	}
}

// TestDiarySaysWhatLastsOnce checks that an error that repeats is logged once, although its request id
// differs each time, and that its end is logged once.
func TestDiarySaysWhatLastsOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := report.NewDiary(slog.New(slog.NewTextHandler(&out, nil)))
	for n := range 50 {
		r := &record.Record{Pool: "p", Words: "nothing: the backlog is unknown: holding", Failures: n + 1}
		r.Fail(fmt.Errorf("read backlog: RequestID: %d, denied", n))
		d.Pass(t.Context(), r)
	}
	d.Pass(t.Context(), &record.Record{Pool: "p"})
	if got := strings.Count(out.String(), "pass failed"); got != 1 {
		t.Errorf("got %d lines about the failure, want 1:\n%s", got, out.String())
	}
	if got := strings.Count(out.String(), "passes succeed again\" pool=p failures=50"); got != 1 {
		t.Errorf("got %d lines about its end, want 1:\n%s", got, out.String())
	}
}

// TestDiarySaysLimitsAndOrders: what the time or an operator has changed is said, once, although nothing is to be done.
func TestDiarySaysLimitsAndOrders(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := report.NewDiary(slog.New(slog.NewTextHandler(&out, nil)))
	for _, least := range []int{1, 1, 4, 4} {
		d.Pass(t.Context(), &record.Record{Pool: "p", Words: "nothing", Seen: pool.Snapshot{
			Limits: pool.Limits{Minimum: least, Maximum: 9},
		}})
	}
	got := strings.Count(out.String(), "other limits are in force")
	if got != 1 || strings.Contains(out.String(), "decision") {
		t.Errorf("got %s, want one change of limits and no decision", out.String())
	}
	d.Pass(t.Context(), &record.Record{Pool: "p", Words: "nothing: ordered 4", Seen: pool.Snapshot{
		Limits: pool.Limits{Minimum: 4, Maximum: 9}, Orders: []pool.Order{{ID: "1", N: 4}},
	}})
	if !strings.Contains(out.String(), "nothing: ordered 4") {
		t.Errorf("got %s, want what became of the order", out.String())
	}
}

// TestDiarySaysOnceWhatHasNoPrice, and again only when something else lacks one.
func TestDiarySaysOnceWhatHasNoPrice(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := report.NewDiary(slog.New(slog.NewTextHandler(&out, nil)))
	for _, missing := range [][]string{nil, {"here a"}, {"here a"}, {"here a", "here b"}, {"here b"}} {
		d.Pass(t.Context(), &record.Record{Pool: "p", Cost: price.Cost{Missing: missing}})
	}
	if got := out.String(); strings.Count(got, "have no price") != 2 || !strings.Contains(got, `missing="[here b]"`) {
		t.Errorf("got %s, want one line for each of the two", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	if got := report.What(99).String(); got != "invalid" {
		t.Errorf("got %q", got)
	}
}
