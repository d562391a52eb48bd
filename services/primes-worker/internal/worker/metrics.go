package worker

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The ways in which a delivery can end; these are label values of the counter of jobs.
const (
	processed  = "processed"
	refused    = "refused"
	handedBack = "handed_back"
	forgotten  = "forgotten" // the broker may not remember that it was given to us
	repeated   = "repeated"  // a finished job that was delivered again
)

// Metrics are a worker's counters.
type Metrics struct {
	jobs    *prometheus.CounterVec
	seconds prometheus.Histogram
	busy    prometheus.Gauge
}

// NewMetrics registers the counters. With nil they exist but are not shown.
func NewMetrics(r prometheus.Registerer) *Metrics {
	auto := promauto.With(r)
	m := &Metrics{
		jobs: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudmaster_primes_jobs_total",
			Help: "Deliveries from the work queue by the end they came to.",
		}, []string{"outcome"}),
		seconds: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "cloudmaster_primes_job_seconds",
			Help:    "Time to compute a job.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9), // 1 ms to 65 s
		}),
		busy: auto.NewGauge(prometheus.GaugeOpts{
			Name: "cloudmaster_primes_busy",
			Help: "1 while a job is worked on.",
		}),
	}
	for _, outcome := range []string{processed, refused, handedBack, forgotten, repeated} {
		m.jobs.WithLabelValues(outcome) // show 0 before the first
	}
	return m
}

func (m *Metrics) count(outcome string) { m.jobs.WithLabelValues(outcome).Inc() }
