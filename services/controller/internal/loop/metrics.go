package loop

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
)

// Metrics are the collectors of all loops of a process.
type Metrics struct {
	instances *prometheus.GaugeVec
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
	stops     *prometheus.CounterVec
	messages  *prometheus.CounterVec
}

// NewMetrics registers the collectors.
func NewMetrics(r prometheus.Registerer) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cloudmaster_" + name, Help: help}, append([]string{"pool"}, labels...))
		r.MustRegister(v)
		return v
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cloudmaster_" + name, Help: help}, append([]string{"pool"}, labels...))
		r.MustRegister(v)
		return v
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cloudmaster_pass_seconds", Help: "Duration of passes.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
	}, []string{"pool"})
	r.MustRegister(seconds)
	return &Metrics{
		instances: gauge("instances", "Instances by state.", "state"),
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
		stops:     counter("stops_total", "Instances shut down or stopped.", "act"),
		messages:  counter("status_messages_total", "Status and log messages by outcome.", "outcome"),
	}
}

// poolMetrics are those of one pool.
type poolMetrics struct {
	all  *Metrics
	pool string
}

func (m *Metrics) forPool(name pool.Name) *poolMetrics {
	return &poolMetrics{all: m, pool: string(name)}
}

func (m *poolMetrics) passed(took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.all.passes.WithLabelValues(m.pool, outcome).Inc()
	m.all.seconds.WithLabelValues(m.pool).Observe(took.Seconds())
}

func (m *poolMetrics) observed(s *pool.Snapshot) {
	load, age := 0.0, time.Duration(0)
	for i := range s.Instances {
		in := &s.Instances[i]
		if in.State == pool.Active {
			load += in.Load
		}
		if in.Counted() {
			age = max(age, s.Now.Sub(in.HeardAt))
		}
	}
	for _, state := range []pool.State{pool.Startup, pool.Active, pool.ShutDown, pool.Stopping} {
		m.all.instances.WithLabelValues(m.pool, state.String()).Set(float64(s.Count(state)))
	}
	m.all.load.WithLabelValues(m.pool).Set(load)
	m.all.age.WithLabelValues(m.pool).Set(age.Seconds())
	m.all.known.WithLabelValues(m.pool).Set(oneIf(s.Backlog.Known))
	if s.Backlog.Known {
		m.all.backlog.WithLabelValues(m.pool, "visible").Set(float64(s.Backlog.Visible))
		m.all.backlog.WithLabelValues(m.pool, "in_flight").Set(float64(s.Backlog.InFlight))
	}
}

func (m *poolMetrics) decided(d *pool.Decision, v policy.Verdict) {
	m.all.breaker.WithLabelValues(m.pool).Set(oneIf(v.Breaker))
	for act, n := range map[string]int{
		"launch": d.Launch, "reactivate": len(d.Reactivate), "shut_down": len(d.ShutDown), "stop": len(d.Stop),
	} {
		if n > 0 {
			m.all.decisions.WithLabelValues(m.pool, act).Inc()
		}
	}
}

func (m *poolMetrics) launched() { m.all.launches.WithLabelValues(m.pool).Inc() }

func (m *poolMetrics) launchFailed(err error) {
	m.all.failures.WithLabelValues(m.pool, launchFailure(err)).Inc()
}

// launchFailure names the class of a launch's error.
func launchFailure(err error) string {
	for _, c := range []struct {
		err  error
		name string
	}{
		{cloud.ErrCapacity, "capacity"},
		{cloud.ErrThrottled, "throttled"},
		{cloud.ErrDenied, "denied"},
		{cloud.ErrNotFound, "not_found"},
		{cloud.ErrInvalid, "invalid"},
		{cloud.ErrConflict, "conflict"},
	} {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "other"
}

func (m *poolMetrics) shutDown() { m.all.stops.WithLabelValues(m.pool, "shut_down").Inc() }

func (m *poolMetrics) stopped() { m.all.stops.WithLabelValues(m.pool, "stop").Inc() }

func (m *poolMetrics) heard(outcome string) {
	m.all.messages.WithLabelValues(m.pool, outcome).Inc()
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
