package web

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/request"
)

const prefix = "cloudmaster_allocator_"

// metrics are what the front counts. The metrics of the active sets are read when they are asked for (setCollector).
type metrics struct {
	allocations *prometheus.CounterVec
	queued      *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	refused     *prometheus.CounterVec
}

// Why a client was refused, in cloudmaster_allocator_refused_total.
const (
	refusedRate        = "requests"
	refusedToken       = "token"
	refusedConnections = "connections"
)

// refusals are the counters of those that were refused, by reason.
type refusals struct{ rate, token, connections prometheus.Counter }

func (m metrics) refusals() refusals {
	return refusals{
		rate: m.refused.WithLabelValues(refusedRate), token: m.refused.WithLabelValues(refusedToken),
		connections: m.refused.WithLabelValues(refusedConnections),
	}
}

// ConnectionRefused counts a connection that was ended because its client has too many.
func (h *Handler) ConnectionRefused() { h.refused.connections.Inc() }

func newMetrics() metrics {
	return metrics{
		allocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "allocations_total",
			Help: "Clients that asked for a server, by outcome: allocated, no_servers, unread.",
		}, []string{"pool", "outcome"}),
		queued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "requests_total",
			Help: "Servers wanted for clients that found none, by outcome: queued, recently_queued, failed.",
		}, []string{"pool", "outcome"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "allocation_duration_seconds",
			Help:    "Time from a client's request to its answer.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 4, 10), // 10 µs to 2.6 s
		}, []string{"pool"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "refused_total",
			Help: "Requests and connections of clients that were refused, by reason: requests (too many in a " +
				"minute), token (none, or not a valid one), connections (too many at once).",
		}, []string{"reason"}),
	}
}

// poolMetrics are those of one pool, looked up once.
type poolMetrics struct {
	allocated, noServers, unread prometheus.Counter
	latency                      prometheus.Observer
	queued                       *prometheus.CounterVec
}

// of returns a pool's metrics. All its series are shown from then on, beginning at 0.
func (m metrics) of(name pool.Name) poolMetrics {
	allocations := m.allocations.MustCurryWith(prometheus.Labels{"pool": string(name)})
	p := poolMetrics{
		allocated: allocations.WithLabelValues("allocated"),
		noServers: allocations.WithLabelValues("no_servers"),
		unread:    allocations.WithLabelValues("unread"),
		latency:   m.latency.WithLabelValues(string(name)),
		queued:    m.queued.MustCurryWith(prometheus.Labels{"pool": string(name)}),
	}
	for _, out := range []request.Outcome{request.Queued, request.Recent, request.Failed} {
		p.requests(out)
	}
	return p
}

func (p *poolMetrics) requests(out request.Outcome) prometheus.Counter {
	return p.queued.WithLabelValues(out.String())
}

func (m metrics) register(r *prometheus.Registry, h *Handler) error {
	for _, c := range []prometheus.Collector{m.allocations, m.queued, m.latency, m.refused, newSetCollector(h)} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// setCollector reports each pool's active set as it is when asked. Sets that were never read are left out.
type setCollector struct {
	handler                          *Handler
	age, written, version, instances *prometheus.Desc
}

var _ prometheus.Collector = (*setCollector)(nil)

func newSetCollector(h *Handler) *setCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, []string{"pool"}, nil)
	}
	return &setCollector{
		handler:   h,
		age:       desc("set_age_seconds", "Time since the store last confirmed the active set in use."),
		written:   desc("set_written_timestamp_seconds", "When the controller wrote the active set in use."),
		version:   desc("set_version", "Version of the active set in use; 0 if there is none."),
		instances: desc("set_instances", "Instances in the active set in use."),
	}
}

// Describe implements prometheus.Collector.
func (c *setCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.age, c.written, c.version, c.instances} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *setCollector) Collect(out chan<- prometheus.Metric) {
	now := time.Now()
	for name, p := range c.handler.pools {
		v := p.Set.Summary(now)
		if !v.Read {
			continue
		}
		gauge := func(d *prometheus.Desc, value float64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, name)
		}
		gauge(c.age, v.Age.Seconds())
		gauge(c.version, float64(v.Version))
		gauge(c.instances, float64(v.Listed))
		if v.Exists {
			gauge(c.written, float64(v.WrittenAt.UnixMilli())/1000)
		}
	}
}
