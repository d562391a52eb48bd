package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Ops is what ServeOps serves.
type Ops struct {
	Registry  *prometheus.Registry // nil: no /metrics
	Ready     func() error         // nil: always ready; the error is in the log, and callers on this machine get it
	Log       *slog.Logger         // nil discards
	Listening func(net.Addr)       // called once when connections are accepted; may be nil
}

// NewRegistry returns a registry with the Go runtime's and the process's own metrics.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// NewAPICalls registers cloudmaster_api_calls_total and returns the function that counts a call to a broker, store or
// cloud in it.
func NewAPICalls(r prometheus.Registerer) func(service, operation string, err error) {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudmaster_api_calls_total", Help: "Calls to brokers, stores and clouds.",
	}, []string{"service", "operation", "outcome"})
	r.MustRegister(calls)
	return func(service, operation string, err error) {
		outcome := "ok"
		if err != nil {
			outcome = "error"
		}
		calls.WithLabelValues(service, operation, outcome).Inc()
	}
}

// OpsHandler answers GET /healthz (the process lives), /readyz (it can do its work) and /metrics.
func OpsHandler(o Ops) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	var said reason
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		var err error
		if o.Ready != nil {
			err = o.Ready()
		}
		if said.changed(err) && o.Log != nil {
			o.Log.InfoContext(r.Context(), "readiness has changed", "ready", err == nil, "reason", said.text())
		}
		switch {
		case err == nil:
			fmt.Fprintln(w, "ready")
		case FromThisMachine(r):
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		default:
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	if o.Registry != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{Registry: o.Registry}))
	}
	return mux
}

// FromThisMachine reports whether a request comes from a program on this machine that asks for itself. What a proxy
// passes on may come from anybody.
func FromThisMachine(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, header := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "Via"} {
		if r.Header.Get(header) != "" {
			return false
		}
	}
	return true
}

// reason is why a program was not ready when it was asked last, so that the log has each reason once.
type reason struct {
	mu   sync.Mutex
	last string // guarded by mu; empty: it was ready, or nobody has asked yet
}

// changed notes an answer and reports whether it differs from the last one.
func (s *reason) changed(err error) bool {
	now := ""
	if err != nil {
		now = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.last
	s.last = now
	return before != now
}

func (s *reason) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// ServeOps serves OpsHandler on the address until ctx ends. Without an address it only waits. It returns an error at
// once if the port is taken.
func ServeOps(ctx context.Context, listen string, o Ops) error {
	if listen == "" {
		<-ctx.Done()
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for health and metrics: %w", err)
	}
	if o.Listening != nil {
		o.Listening(l.Addr())
	}
	return ServeHTTP(ctx, l, OpsHandler(o), o.Log)
}

const (
	headerTimeout   = 5 * time.Second
	requestTimeout  = 30 * time.Second
	shutdownTimeout = 10 * time.Second

	// maxHeader is how many bytes the header of a request may have: what proxies and browsers add fits, and a client
	// cannot make the server keep much.
	maxHeader = 16 << 10
)

// ServeHTTP serves on the listener until ctx ends, then lets requests under way finish for at most 10 s and cuts off
// the rest. Cutting off is logged but is no error, because the stop was asked for. It closes the listener.
func ServeHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout,
		WriteTimeout: requestTimeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return Group(ctx, func(context.Context) error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
		return nil
	}, func(ctx context.Context) error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := srv.Shutdown(stop); err != nil {
			log.WarnContext(ctx, "connections cut off", "address", l.Addr().String(),
				"error", errors.Join(err, srv.Close()))
		}
		return nil
	})
}
