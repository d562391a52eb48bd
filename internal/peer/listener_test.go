package peer_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"cloudmaster/internal/peer"
)

// TestLimit: beyond its bound a client is closed at once, and a connection that ends makes room.
func TestLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		most   int
		exempt bool
		takes  int // of four
	}{
		"bounded": {2, false, 2}, "exempt": {2, true, 4}, "no bound": {0, false, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			refused := make(chan struct{}, 8)
			l := peer.Limit(inner, c.most, func(netip.Addr) bool { return c.exempt }, func() { refused <- struct{}{} })
			taken := make(chan net.Conn, 8)
			over := make(chan struct{})
			go func() {
				defer close(over)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					taken <- conn
				}
			}()
			t.Cleanup(func() { _ = l.Close(); <-over })
			var clients []net.Conn
			for range 4 {
				clients = append(clients, dial(t, inner.Addr().String()))
			}
			var served []net.Conn
			for range c.takes {
				served = append(served, <-taken)
			}
			for range 4 - c.takes {
				<-refused
			}
			if c.takes == 4 {
				return
			}
			if _, err := clients[3].Read(make([]byte, 1)); err == nil {
				t.Error("the fourth is open, want it closed")
			}
			_ = served[0].Close()
			_ = served[0].Close() // twice is once
			dial(t, inner.Addr().String())
			<-taken
			dial(t, inner.Addr().String())
			<-refused
		})
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}
