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

// CountRefused registers cloudmaster_broker_refused_total and returns the function that counts in it the clients that
// the controller's own broker refuses.
func CountRefused(r prometheus.Registerer) func(reason string) {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudmaster_broker_refused_total",
		Help: "Clients that the embedded broker refused, by reason: login (a wrong one), silent (none in time), " +
			"waiting (too many that had not logged in), forbidden (said what clients must not), deaf (did not read).",
	}, []string{"reason"})
	r.MustRegister(refused)
	return func(reason string) { refused.WithLabelValues(reason).Inc() }
}
