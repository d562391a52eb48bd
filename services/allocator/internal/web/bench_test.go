package web_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/web"
)

const (
	// benchConnections is how many clients ask at once, each on its own kept-alive connection.
	benchConnections = 16
	// benchRounds is into how many parts a run is cut, so that both servers see the same neighbours.
	benchRounds = 10
)

// BenchmarkAllocations measures allocations over HTTP on loopback with 1,000
// instances; the clients run in the same process. In turns with the allocator
// the same clients ask a bare handler with a constant answer of the same size:
// "ratio" is the allocator's rate over the bare handler's, and what the machine
// does beside hits both alike.
func BenchmarkAllocations(b *testing.B) {
	allocator := newServer(b, benchHandler(b, 1000))
	bare := newServer(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"i-00000","address":"10.0.0.1:20808","load_estimate":0.5}`+"\n")
	}))
	b.ResetTimer()
	for round := range benchRounds {
		n := (round+1)*b.N/benchRounds - round*b.N/benchRounds
		allocator.load(b, n)
		b.StopTimer()
		bare.load(b, n)
		b.StartTimer()
	}
	b.StopTimer()
	b.ReportMetric(allocator.perSecond(), "allocations/s")
	b.ReportMetric(allocator.percentile(50), "p50-ms")
	b.ReportMetric(allocator.percentile(99), "p99-ms")
	b.ReportMetric(bare.percentile(99), "bare-p99-ms")
	b.ReportMetric(allocator.perSecond()/bare.perSecond(), "ratio")
}

func benchHandler(b *testing.B, instances int) *web.Handler {
	b.Helper()
	fib := newSet(b, "fib")
	set := activeset.Set{Pool: "fib", Version: 1}
	for i := range instances {
		set.Instances = append(set.Instances, activeset.Instance{
			ID: pool.InstanceID(fmt.Sprintf("i-%05d", i)), Address: "10.0.0.1:20808", Load: float64(i%10) / 10,
		})
	}
	fib.Update(set, time.Now())
	h, err := web.New([]web.Pool{{Set: fib}}, web.Options{
		Registry: prometheus.NewRegistry(), PeerRequests: 1 << 40, // counted, and never reached
	})
	if err != nil {
		b.Fatal(err)
	}
	return h
}

// benchServer is a handler that listens, with what was measured on it.
type benchServer struct {
	addr  string
	spent time.Duration   // under load
	took  []time.Duration // of each request
}

func newServer(b *testing.B, h http.Handler) *benchServer {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background()) // b.Context ends before the clean-up
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = daemon.ServeHTTP(ctx, l, h, nil) })
	b.Cleanup(func() { stop(); wg.Wait() })
	return &benchServer{addr: l.Addr().String()}
}

// load has the clients send n requests.
func (s *benchServer) load(b *testing.B, n int) {
	b.Helper()
	took := make([][]time.Duration, benchConnections)
	var clients sync.WaitGroup
	start := time.Now()
	for i := range took {
		share := (i+1)*n/benchConnections - i*n/benchConnections
		clients.Go(func() {
			var err error
			if took[i], err = ask(b.Context(), s.addr, share); err != nil {
				b.Error(err)
			}
		})
	}
	clients.Wait()
	s.spent += time.Since(start)
	s.took = append(s.took, slices.Concat(took...)...)
}

func (s *benchServer) perSecond() float64 { return float64(len(s.took)) / s.spent.Seconds() }

// percentile returns the time in milliseconds that p percent of the requests did not exceed.
func (s *benchServer) percentile(p int) float64 {
	slices.Sort(s.took)
	return s.took[len(s.took)*p/100].Seconds() * 1000
}

// ask sends requests one after the other over one connection. It reads no more
// of the answers than it must, so that the clients cost little beside the server.
func ask(ctx context.Context, addr string, n int) ([]time.Duration, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	request := []byte("POST /v1/pools/fib/allocations HTTP/1.1\r\nHost: " + addr + "\r\nContent-Length: 0\r\n\r\n")
	in := bufio.NewReader(conn)
	took := make([]time.Duration, 0, n)
	for range n {
		start := time.Now()
		if _, err := conn.Write(request); err != nil {
			return took, err
		}
		if err := skipAnswer(in); err != nil {
			return took, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

func skipAnswer(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 201 ")) {
		return fmt.Errorf("got %q, want 201", line)
	}
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
		if len(bytes.TrimSpace(line)) == 0 {
			_, err := in.Discard(length)
			return err
		}
	}
}
