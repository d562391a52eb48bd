package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cloudmaster/services/allocator/internal/allocate"
	"cloudmaster/services/allocator/internal/request"
)

const (
	maxBody = 64 << 10

	// A new server takes about a minute to come up; a first read of the store a few seconds.
	retryNoServers = time.Minute
	retryUnread    = 5 * time.Second
)

// NoServers is the detail of the problem when a pool has no server; clients show it.
const NoServers = "no servers are running, try again in a minute"

// allocation is the body of a 201.
type allocation struct {
	ID      string  `json:"id"`
	Address string  `json:"address"`
	Load    float64 `json:"load_estimate"` // before this client
}

// allocate gives the client an instance.
func (h *Handler) allocate(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	p, ok := h.find(r)
	if !ok {
		unknown(w, r, nil)
		return
	}
	if !discardBody(w, r) {
		return
	}
	a, err := p.Set.Allocate(start)
	switch {
	case err == nil:
		writeJSON(w, http.StatusCreated, allocation{ID: string(a.ID), Address: a.Address, Load: a.Load})
		p.metrics.allocated.Inc()
	case errors.Is(err, allocate.ErrNoServers):
		h.noServers(w, r, p)
		p.metrics.noServers.Inc()
	default:
		h.unread(w, r, p)
		p.metrics.unread.Inc()
	}
	p.metrics.latency.Observe(time.Since(start).Seconds())
}

// noServers requests a server and answers that there is none yet.
func (h *Handler) noServers(w http.ResponseWriter, r *http.Request, p *served) {
	out, err := p.Requests.Request(r.Context(), h.client(r))
	p.metrics.requests(out).Inc()
	body := problem{
		Type: typeNoServers, Title: "No servers", Status: http.StatusServiceUnavailable,
		Detail: NoServers, Pool: string(p.name), Request: out.String(),
	}
	if out == request.Failed {
		body.RequestDetail = "the request for a server could not be put on the pool's work queue; " +
			"your next call tries again"
		if !p.failing.Swap(true) {
			h.opts.Log.WarnContext(r.Context(), "servers cannot be requested", "pool", p.name, "queue", p.Queue,
				"error", err)
		}
	} else if p.failing.Swap(false) {
		h.opts.Log.InfoContext(r.Context(), "servers can be requested again", "pool", p.name, "queue", p.Queue)
	}
	writeRetry(w, retryNoServers)
	writeProblem(w, r, body)
}

func (h *Handler) unread(w http.ResponseWriter, r *http.Request, p *served) {
	writeRetry(w, retryUnread)
	writeProblem(w, r, problem{
		Type: typeUnread, Title: "Servers not known yet", Status: http.StatusServiceUnavailable,
		Detail: fmt.Sprintf("the active set of pool %s has not been read yet, try again in a few seconds", p.name),
		Pool:   string(p.name),
	})
}

// setView is the body of GET /v1/pools/{pool}.
type setView struct {
	Pool      string         `json:"pool"`
	Set       string         `json:"set"` // "unread", "missing" or "present"
	Version   int            `json:"version"`
	WrittenAt *time.Time     `json:"written_at,omitempty"`
	Age       float64        `json:"age_seconds"` // since the store last confirmed it
	Instances []instanceView `json:"instances"`
}

type instanceView struct {
	ID         string    `json:"id"`
	Address    string    `json:"address"`
	Load       float64   `json:"load_estimate"` // expected now, with the assigned clients
	Reported   float64   `json:"reported_load"`
	Assigned   int       `json:"assigned"` // clients that no report confirms yet
	Heard      int       `json:"heard"`    // those that other allocators told of, unconfirmed as well
	ReportedAt time.Time `json:"reported_at"`
}

func (h *Handler) view(w http.ResponseWriter, r *http.Request) {
	p, ok := h.find(r)
	if !ok {
		unknown(w, r, h.names)
		return
	}
	v := p.Set.View(time.Now())
	out := setView{
		Pool: string(v.Pool), Set: presence(&v), Version: v.Version, Age: v.Age.Seconds(),
		Instances: make([]instanceView, len(v.Instances)),
	}
	if v.Exists {
		out.WrittenAt = &v.WrittenAt
	}
	for i, in := range v.Instances {
		out.Instances[i] = instanceView{
			ID: string(in.ID), Address: in.Address, Load: in.Estimate,
			Reported: in.Load, Assigned: in.Own, Heard: in.Heard, ReportedAt: in.ReportedAt,
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, out)
}

func presence(v *allocate.View) string {
	switch {
	case !v.Read:
		return "unread"
	case !v.Exists:
		return "missing"
	}
	return "present"
}

// find returns the pool of the path.
func (h *Handler) find(r *http.Request) (*served, bool) {
	p := h.pools[r.PathValue("pool")]
	return p, p != nil
}

// unknown answers that there is no such pool. The names of those there are come only to who runs the allocator.
func unknown(w http.ResponseWriter, r *http.Request, names []string) {
	detail := fmt.Sprintf("there is no pool %q here", r.PathValue("pool"))
	if names != nil {
		detail += "; the pools are " + strings.Join(names, ", ")
	}
	writeProblem(w, r, problem{
		Type: typeUnknownPool, Title: "Unknown pool", Status: http.StatusNotFound, Detail: detail, Pools: names,
	})
}

// discardBody reads what the client has sent, or answers that it cannot.
func discardBody(w http.ResponseWriter, r *http.Request) bool {
	if r.Body == http.NoBody {
		return true
	}
	_, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		return true
	}
	p := problem{
		Type: typeUnreadable, Title: "Unreadable request", Status: http.StatusBadRequest,
		Detail: "the request's body ended early; it needs none",
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		p = problem{
			Type: typeTooLarge, Title: "Request too large", Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the request has more than %d bytes; it needs none", maxBody),
		}
	}
	writeProblem(w, r, p)
	return false
}

func writeRetry(w http.ResponseWriter, after time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil { // cannot happen: our bodies hold strings, numbers and times that were read from JSON
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // it fails only if the client is gone
}
