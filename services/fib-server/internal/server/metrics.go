package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	clients prometheus.Gauge
	lines   prometheus.Counter
	refused *prometheus.CounterVec
	bytes   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r) // a nil Registerer makes metrics that are in no registry
	return &metrics{
		clients: f.NewGauge(prometheus.GaugeOpts{
			Name: "cloudmaster_fib_connections", Help: "Clients connected now.",
		}),
		lines: f.NewCounter(prometheus.CounterOpts{
			Name: "cloudmaster_fib_lines_total", Help: "Lines answered with a number.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudmaster_fib_refused_total",
			Help: "Clients refused or cut off: the server was full, or one address had too much.",
		}, []string{"reason"}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "cloudmaster_fib_sent_bytes_total", Help: "Bytes written to clients.",
		}),
	}
}
