package broker_test

import (
	"testing"

	"cloudmaster/services/controller/internal/broker"
)

// TestClient: other programs on this machine can tell from the configuration where the broker is.
func TestClient(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"127.0.0.1:4222": "nats://127.0.0.1:4222", "0.0.0.0:4300": "nats://127.0.0.1:4300",
		":4300":      "nats://127.0.0.1:4300",
		"[::1]:4222": "nats://[::1]:4222", "host:4222": "nats://host:4222", "127.0.0.1:0": "", "4222": "",
	} {
		k := broker.Kind()
		got, err := k.Client(broker.Embedded, &broker.Settings{Listen: listen})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", listen, got, err, want)
		}
	}
}
