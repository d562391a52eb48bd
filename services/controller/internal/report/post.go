package report

import "github.com/prometheus/client_golang/prometheus"

// CountPost registers cloudmaster_post_messages_total and returns the function that counts in it what became of
// messages on the queues of the whole deployment.
func CountPost(r prometheus.Registerer) func(use, outcome string, n int) {
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudmaster_post_messages_total",
		Help: "Messages on the deployment's queues of hints and events, by what became of them.",
	}, []string{"queue", "outcome"})
	r.MustRegister(messages)
	return func(use, outcome string, n int) { messages.WithLabelValues(use, outcome).Add(float64(n)) }
}
