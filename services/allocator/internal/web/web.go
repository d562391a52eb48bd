// Package web is the allocator's HTTP front.
//
//	POST /v1/pools/{pool}/allocations  201 {"id","address","load_estimate"}
//	GET  /v1/pools/{pool}              the set as this allocator sees it
//	GET  /healthz                      the process lives
//	GET  /readyz                       every pool's set has been read at least once
//	GET  /metrics                      for Prometheus
//
// Errors are RFC 9457 problems (application/problem+json). When a pool has no server, a request for one is put on the
// pool's work queue, and the answer is 503 with Retry-After. If the request could not be put there, the member
// "request" says so and the client's next call tries again. When the pool's active set has not been read yet the
// answer is 503 too, but another problem, and no server is requested, because the pool may have some.
//
// An allocator whose store is away stays ready. It goes on with the last active set; and if it were not ready, a load
// balancer would take all allocators out of use at once, and clients would get no servers at all. To callers on this
// machine, /readyz names the pools whose set has not been read, or is older than Options.MaxSetAge; others learn
// nothing but the state.
//
// Bodies of requests are read up to 64 KiB and ignored.
package web

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/daemon"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/allocate"
	"cloudmaster/services/allocator/internal/request"
)

// DefaultMaxSetAge is how old a set may be before /readyz mentions it.
const DefaultMaxSetAge = 30 * time.Second

// requester is what is needed of a request.Requester.
type requester interface {
	Request(ctx context.Context, client string) (request.Outcome, error)
}

// Pool is what the front serves of one pool.
type Pool struct {
	Set      *allocate.Pool
	Requests requester
	Queue    string // the work queue's name, for people
}

// Options of a Handler; the zero value works.
type Options struct {
	MaxSetAge      time.Duration        // 0 means DefaultMaxSetAge
	TrustedProxies []netip.Prefix       // whose X-Forwarded-For is believed; none by default
	Registry       *prometheus.Registry // takes the metrics and serves /metrics; nil: neither
	Log            *slog.Logger         // nil discards
}

// Handler answers the requests of the package comment.
type Handler struct {
	opts  Options
	pools map[string]*served
	names []string // sorted
	mux   *http.ServeMux
}

var _ http.Handler = (*Handler)(nil)

// served is one pool with what the front keeps for it.
type served struct {
	Pool
	name    pool.Name
	metrics poolMetrics
	failing atomic.Bool // the last request could not be queued
}

// New returns a Handler for the pools.
func New(pools []Pool, opts Options) (*Handler, error) {
	opts.MaxSetAge = cmp.Or(opts.MaxSetAge, DefaultMaxSetAge)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{opts: opts, pools: make(map[string]*served, len(pools)), mux: http.NewServeMux()}
	m := newMetrics()
	for _, p := range pools {
		name := p.Set.Name()
		if h.pools[string(name)] != nil {
			return nil, fmt.Errorf("pool %s is given twice", name)
		}
		h.pools[string(name)] = &served{Pool: p, name: name, metrics: m.of(name)}
	}
	h.names = slices.Sorted(maps.Keys(h.pools))
	if opts.Registry != nil {
		if err := m.register(opts.Registry, h); err != nil {
			return nil, err
		}
	}
	h.route()
	return h, nil
}

func (h *Handler) route() {
	ops := daemon.OpsHandler(daemon.Ops{Registry: h.opts.Registry})
	h.mux.Handle("/healthz", ops)
	h.mux.Handle("/metrics", ops)
	h.mux.HandleFunc("/readyz", only(h.ready, http.MethodGet, http.MethodHead))
	h.mux.HandleFunc("/v1/pools/{pool}", only(h.view, http.MethodGet, http.MethodHead))
	h.mux.HandleFunc("/v1/pools/{pool}/allocations", only(h.allocate, http.MethodPost))
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, problem{
			Type: typeNotFound, Title: "Not found", Status: http.StatusNotFound,
			Detail: "there is nothing here; clients POST to /v1/pools/{pool}/allocations",
		})
	})
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// only refuses other methods than those named.
func only(next http.HandlerFunc, methods ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(methods, r.Method) {
			next(w, r)
			return
		}
		allow := strings.Join(methods, ", ")
		w.Header().Set("Allow", allow)
		writeProblem(w, r, problem{
			Type: typeMethod, Title: "Method not allowed", Status: http.StatusMethodNotAllowed,
			Detail: fmt.Sprintf("%s is not possible here, only %s", r.Method, allow),
		})
	}
}

// ready answers 200 once every pool's set has been read.
func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	var unread, notes []string
	for _, name := range h.names {
		v := h.pools[name].Set.Summary(now)
		switch {
		case !v.Read:
			unread = append(unread, name)
		case v.Age > h.opts.MaxSetAge:
			notes = append(notes,
				fmt.Sprintf("pool %s: the active set was last confirmed %v ago; the last one known is in use",
					name, v.Age.Round(time.Second)))
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(unread) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		if !daemon.FromThisMachine(r) {
			fmt.Fprintln(w, "not ready")
			return
		}
		fmt.Fprintf(w, "not ready: the active set has not been read yet of pool %s\n", strings.Join(unread, ", "))
		return
	}
	fmt.Fprintln(w, "ready")
	if !daemon.FromThisMachine(r) {
		return
	}
	for _, note := range notes {
		fmt.Fprintln(w, note)
	}
}
