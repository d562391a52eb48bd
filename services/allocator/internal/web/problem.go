package web

import "net/http"

// The types of problem (RFC 9457); programs tell problems apart by these.
const (
	typeNoServers   = "urn:cloudmaster:problem:no-servers"
	typeUnread      = "urn:cloudmaster:problem:servers-not-known-yet"
	typeUnknownPool = "urn:cloudmaster:problem:unknown-pool"
	typeNotFound    = "urn:cloudmaster:problem:not-found"
	typeMethod      = "urn:cloudmaster:problem:method-not-allowed"
	typeUnreadable  = "urn:cloudmaster:problem:unreadable-request"
	typeNoToken     = "urn:cloudmaster:problem:token-needed"
	typeTooMany     = "urn:cloudmaster:problem:too-many-requests"
	typeTooLarge    = "urn:cloudmaster:problem:request-too-large"
)

// problem is the body of an error. Those below Instance are our extensions.
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"` // the path that was asked for

	Pool          string   `json:"pool,omitempty"`
	Pools         []string `json:"pools,omitempty"`          // unknown pool, not to clients: those there are
	Request       string   `json:"request,omitempty"`        // no servers: "queued", "recently_queued" or "failed"
	RequestDetail string   `json:"request_detail,omitempty"` // failed: for people
}

func writeProblem(w http.ResponseWriter, r *http.Request, p problem) {
	p.Instance = r.URL.EscapedPath()
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, p.Status, p)
}
