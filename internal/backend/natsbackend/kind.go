package natsbackend

import (
	"time"

	"cloudmaster/internal/backend"
)

// Kind describes the backend to the configuration.
func Kind() backend.Kind {
	return backend.Kind{
		Name: "nats", Form: "nats://HOST:4222",
		Help: "a NATS server with JetStream; nats://[user:password@]host[:port][,host…] for a cluster; options " +
			"behind ? are replicas, credentials, tls, ca, cert and key (docs/security.md)",
		LeaseTTL: 15 * time.Second, Watches: true,
		Check: check, Open: backend.Opens("nats", Open),
	}
}

func check(address string) error {
	u, err := backend.ParseAddress(address)
	if err != nil {
		return err
	}
	_, err = parse(u)
	return err
}
