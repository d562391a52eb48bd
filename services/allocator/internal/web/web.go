// Package web is the allocator's HTTP front.
//
// It has two sides, each with an address of its own. Clients, who may be strangers, reach the Handler itself:
//
//	POST /v1/pools/{pool}/allocations  201 {"id","address","load_estimate"}
//
// Who runs the allocator reaches Handler.Ops, which lists all servers and pools, and needs no token:
//
//	GET  /v1/pools/{pool}              the set as this allocator sees it
//	GET  /healthz                      the process lives
//	GET  /readyz                       every pool's set has been read at least once
//	GET  /metrics                      for Prometheus
//
// Clients learn of nothing but the server that was chosen and the state of the pool that they name. Each client address
// has a bound of requests in a minute (429), and with Options.Tokens a request needs one (401).
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
	"cloudmaster/internal/peer"
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
	Tokens         tokens               // what clients must show; nil: nothing
	PeerRequests   int                  // that one client address may make in a minute; 0: no bound
	Log            *slog.Logger         // nil discards
}

// tokens is what is needed of a bearer.Tokens.
type tokens interface {
	Valid(token string) bool
}

// Handler answers what clients ask, see the package comment.
type Handler struct {
	opts    Options
	pools   map[string]*served
	names   []string // sorted
	mux     *http.ServeMux
	ops     *http.ServeMux
	rate    *peer.Rate
	refused refusals
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
	m := newMetrics()
	h := &Handler{
		opts: opts, pools: make(map[string]*served, len(pools)), mux: http.NewServeMux(), ops: http.NewServeMux(),
		rate: peer.NewRate(opts.PeerRequests), refused: m.refusals(),
	}
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
	h.ops.Handle("/healthz", ops)
	h.ops.Handle("/metrics", ops)
	h.ops.HandleFunc("/readyz", only(h.ready, http.MethodGet, http.MethodHead))
	h.ops.HandleFunc("/v1/pools/{pool}", only(h.view, http.MethodGet, http.MethodHead))
	h.ops.HandleFunc("/", nothing("there is nothing here; /v1/pools/{pool} shows a pool, and clients have an address "+
		"of their own"))
	h.mux.HandleFunc("/v1/pools/{pool}/allocations", only(h.allocate, http.MethodPost))
	h.mux.HandleFunc("/", nothing("there is nothing here; clients POST to /v1/pools/{pool}/allocations"))
}

func nothing(detail string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, problem{
			Type: typeNotFound, Title: "Not found", Status: http.StatusNotFound, Detail: detail,
		})
	}
}

// ServeHTTP answers one request of a client.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.admit(w, r) {
		h.mux.ServeHTTP(w, r)
	}
}

// Ops returns the side for who runs the allocator.
func (h *Handler) Ops() http.Handler { return h.ops }

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
