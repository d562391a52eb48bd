package report

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/price"
	"cloudmaster/services/controller/internal/record"
)

// Metrics are the collectors of all pools of a process.
type Metrics struct {
	instances *prometheus.GaugeVec
	outdated  *prometheus.GaugeVec
	load      *prometheus.GaugeVec
	backlog   *prometheus.GaugeVec
	known     *prometheus.GaugeVec
	age       *prometheus.GaugeVec
	breaker   *prometheus.GaugeVec
	passes    *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	decisions *prometheus.CounterVec
	launches  *prometheus.CounterVec
	failures  *prometheus.CounterVec
	starts    *prometheus.CounterVec
	stops     *prometheus.CounterVec
	messages  *prometheus.CounterVec
	cost      *prometheus.GaugeVec
	priced    *prometheus.GaugeVec
	oldest    *prometheus.GaugeVec
}

// NewMetrics registers the collectors.
func NewMetrics(r prometheus.Registerer) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cloudmaster_" + name, Help: help},
			append([]string{"pool"}, labels...))
		r.MustRegister(v)
		return v
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cloudmaster_" + name, Help: help},
			append([]string{"pool"}, labels...))
		r.MustRegister(v)
		return v
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cloudmaster_pass_seconds", Help: "Duration of passes.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
	}, []string{"pool"})
	r.MustRegister(seconds)
	return &Metrics{
		instances: gauge("instances", "Instances by state.", "state"),
		outdated:  gauge("outdated_instances", "Instances that a launch would make otherwise, by reason.", "reason"),
		load:      gauge("load", "Sum of the loads of active instances."),
		backlog:   gauge("backlog_messages", "Messages on the work queue.", "kind"),
		known:     gauge("backlog_known", "1 if the backlog could be read, else 0."),
		age:       gauge("status_age_seconds", "Time since the most silent counted instance was heard."),
		breaker:   gauge("breaker_open", "1 while so many instances are silent that none is replaced."),
		passes:    counter("passes_total", "Passes by outcome.", "outcome"),
		seconds:   seconds,
		decisions: counter("decisions_total", "Decisions that changed something, by act.", "act"),
		launches:  counter("launches_total", "Instances launched."),
		failures:  counter("launch_failures_total", "Launches that failed, by reason.", "reason"),
		starts:    counter("warm_starts_total", "Starts of warm instances by outcome.", "outcome"),
		stops:     counter("stops_total", "Instances shut down or stopped, by act and cause.", "act", "cause"),
		cost:      gauge("cost_usd_per_hour", "What those instances cost that have a price; none if none has one."),
		priced:    gauge("cost_instances", "Instances by what is known of their price.", "price"),
		oldest: gauge("oldest_message_age_seconds",
			"Age of the oldest message, as of the last look; none if it is unknown.", "queue"),
		messages: counter("status_messages_total", "Status and log messages by outcome.", "outcome"),
	}
}

// Pass counts what a pass did, and sets the gauges to the state of the pool.
func (m *Metrics) Pass(_ context.Context, r *record.Record) {
	name, outcome := string(r.Pool), "ok"
	if r.Err != nil {
		outcome = "error"
	}
	m.passes.WithLabelValues(name, outcome).Inc()
	m.seconds.WithLabelValues(name).Observe(r.Took.Seconds())
	if r.Blind != "" {
		return
	}
	m.observed(name, r)
	m.breaker.WithLabelValues(name).Set(oneIf(r.Breaker.Open))
	d := &r.Decision
	for act, n := range map[string]int{
		"launch": d.Launch, "reactivate": len(d.Reactivate), "shut_down": len(d.ShutDown), "stop": len(d.Stop),
	} {
		if n > 0 {
			m.decisions.WithLabelValues(name, act).Inc()
		}
	}
	for i := range r.Launches {
		m.launches.WithLabelValues(name).Add(float64(len(r.Launches[i].Started)))
		if reason := r.Launches[i].Reason; reason != "" {
			m.failures.WithLabelValues(name, reason).Inc()
		}
	}
	for i := range r.Starts {
		m.starts.WithLabelValues(name, string(r.Starts[i].Outcome)).Inc()
	}
	for i := range r.Endings {
		if e := &r.Endings[i]; !e.Spared && !e.Unpublished && e.Act != record.StopAgain {
			m.stops.WithLabelValues(name, string(e.Act), string(e.Cause)).Inc()
		}
	}
}

func (m *Metrics) observed(name string, r *record.Record) {
	s, load := &r.Seen, 0.0
	for i := range s.Instances {
		if s.Instances[i].State == pool.Active {
			load += s.Instances[i].Load
		}
	}
	for _, state := range []pool.State{pool.Startup, pool.Active, pool.ShutDown, pool.Stopping} {
		m.instances.WithLabelValues(name, state.String()).Set(float64(s.Count(state)))
	}
	reserve := pool.Snapshot{Instances: r.Warm}
	for _, state := range []pool.State{pool.Warming, pool.Warm} {
		m.instances.WithLabelValues(name, state.String()).Set(float64(reserve.Count(state)))
	}
	for _, why := range pool.Drifts() {
		m.outdated.WithLabelValues(name, string(why)).Set(float64(r.Rollout.Outdated[why]))
	}
	m.load.WithLabelValues(name).Set(load)
	m.costs(name, &r.Cost)
	m.ages(name, "work", r.Ages.Work)
	m.ages(name, "dead", r.Ages.Dead)
	m.age.WithLabelValues(name).Set(r.Inputs.Statuses.Seconds())
	m.known.WithLabelValues(name).Set(oneIf(s.Backlog.Known))
	if s.Backlog.Known {
		m.backlog.WithLabelValues(name, "visible").Set(float64(s.Backlog.Visible))
		m.backlog.WithLabelValues(name, "in_flight").Set(float64(s.Backlog.InFlight))
	}
}

// costs shows what is known of the cost. If no price is known, there is no cost, because 0 would be one.
func (m *Metrics) costs(name string, c *price.Cost) {
	if c.Unknown == c.Instances && c.Instances > 0 {
		m.cost.DeleteLabelValues(name)
	} else {
		m.cost.WithLabelValues(name).Set(c.USD)
	}
	m.priced.WithLabelValues(name, "known").Set(float64(c.Instances - c.AtMost - c.Unknown))
	m.priced.WithLabelValues(name, "at_most").Set(float64(c.AtMost))
	m.priced.WithLabelValues(name, "unknown").Set(float64(c.Unknown))
}

// ages shows the age of a queue's oldest message, and nothing if it is unknown.
func (m *Metrics) ages(name, which string, age queue.Age) {
	if !age.Known {
		m.oldest.DeleteLabelValues(name, which)
		return
	}
	m.oldest.WithLabelValues(name, which).Set(age.Oldest.Seconds())
}

// Intake counts messages.
func (m *Metrics) Intake(_ context.Context, in *record.Intake) {
	for outcome, n := range in.Outcomes {
		m.messages.WithLabelValues(string(in.Pool), outcome).Add(float64(n))
	}
}

// Forget drops the metrics of a pool that does not run any more.
func (m *Metrics) Forget(name pool.Name) {
	labels := prometheus.Labels{"pool": string(name)}
	for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		m.instances, m.outdated, m.load, m.backlog, m.known, m.age, m.breaker,
		m.passes, m.seconds, m.decisions, m.launches, m.failures, m.starts, m.stops, m.messages, m.cost, m.priced,
		m.oldest,
	} {
		v.DeletePartialMatch(labels)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
