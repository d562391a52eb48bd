package wire

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestTargetComesBack: while the target is away every call is answered with 502. When it is back
// all calls succeed, because no dead connections are left.
func TestTargetComesBack(t *testing.T) {
	t.Parallel()
	target := &target{status: http.StatusOK}
	var address string
	up := func() *httptest.Server {
		server := httptest.NewUnstartedServer(target)
		if address != "" {
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_ = server.Listener.Close() // the new server already listened on another port
			server.Listener = listener
		}
		address = server.Listener.Addr().String()
		server.Start()
		return server
	}
	first := up()
	w, err := Start(t.Context(), first.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := bench{Wire: w, t: t}
	const launch = "Action=RunInstances&ClientToken=a"
	want := func(when string, status int) {
		t.Helper()
		for _, call := range []struct {
			name string
			got  reply
		}{
			{"read", b.sqs("ReceiveMessage", "{}")},
			{"launch", b.ec2(launch)},
			{"put", b.do(t.Context(), b.request("PUT", "/b/k", "x"))},
		} {
			if call.got.status != status {
				t.Errorf("%s: %s: got %+v, want %d", when, call.name, call.got, status)
			}
		}
	}
	b.sqs("ReceiveMessage", "{}")
	first.Close()
	want("while it is away", http.StatusBadGateway)
	second := up()
	want("when it is back", http.StatusOK)
	second.Close()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
