package natsqueue_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/natsqueue"
	"cloudmaster/internal/queue/queuetest"
)

// TestConformanceOfACluster runs the suite on a cluster of three brokers, each of which keeps a
// replica of every queue.
func TestConformanceOfACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster takes its time")
	}
	nodes := startCluster(t, 3)
	nc, err := nats.Connect(nodes[0].ClientURL(), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(nc.Close)
	js, err := natsqueue.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	opts := natsqueue.Options{Replicas: 3, Patience: 30 * time.Second}
	var made atomic.Int32
	queuetest.Run(t, queuetest.Harness{
		Make: func(t *testing.T, limits queue.Limits) queue.Queue {
			q, err := natsqueue.Ensure(t.Context(), js, fmt.Sprintf("q%d", made.Add(1)), limits, opts)
			if err != nil {
				t.Fatalf("ensure: %v", err)
			}
			return q
		},
		Open: func(ctx context.Context, name string) (queue.Queue, error) {
			return natsqueue.Open(ctx, js, name, opts)
		},
		Remove: func(t *testing.T, name string) {
			if err := js.DeleteStream(t.Context(), "cloudmaster-"+name); err != nil {
				t.Errorf("delete stream of %s: %v", name, err)
			}
		},
		Unit:     time.Second,
		Lag:      time.Second,
		TooLarge: 1 << 20,
		Ordered:  true,
	})
}

func startCluster(t *testing.T, n int) []*server.Server {
	t.Helper()
	routes := make([]*url.URL, n)
	ports := make([]int, n)
	for i := range n {
		ports[i] = freePort(t)
		routes[i] = &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])}
	}
	nodes := make([]*server.Server, n)
	for i := range n {
		srv, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("node-%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true,
			NoSigs:    true,
			JetStream: true, StoreDir: t.TempDir(), Routes: routes,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]},
		})
		if err != nil {
			t.Fatalf("new node: %v", err)
		}
		srv.Start()
		t.Cleanup(func() {
			srv.Shutdown()
			srv.WaitForShutdown()
		})
		nodes[i] = srv
	}
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		if hasLeader(nodes) {
			return nodes
		}
		if time.Now().After(deadline) {
			t.Fatal("the cluster finds no leader")
		}
	}
}

// hasLeader reports whether the cluster has a leader that knows all nodes.
func hasLeader(nodes []*server.Server) bool {
	for _, srv := range nodes {
		if srv.JetStreamIsLeader() && len(srv.JetStreamClusterPeers()) == len(nodes) {
			return true
		}
	}
	return false
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
