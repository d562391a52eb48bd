package web

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"cloudmaster/internal/peer"
)

// admit reports whether a request may be answered. If not, it has answered that. The bound comes before the token, so
// that trying tokens is bounded as well.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request) bool {
	if h.opts.PeerRequests > 0 && !h.rate.Take(peer.Of(h.client(r)), 1, time.Now()) {
		h.refused.rate.Inc()
		h.tooMany(w, r)
		return false
	}
	if h.opts.Tokens != nil && !h.opts.Tokens.Valid(token(r)) {
		h.refused.token.Inc()
		noToken(w, r)
		return false
	}
	return true
}

// tooMany answers 429. One more request is there after this time, or after a second, which is the least that
// Retry-After can say.
func (h *Handler) tooMany(w http.ResponseWriter, r *http.Request) {
	writeRetry(w, time.Duration(math.Ceil(60/float64(h.opts.PeerRequests)))*time.Second)
	writeProblem(w, r, problem{
		Type: typeTooMany, Title: "Too many requests", Status: http.StatusTooManyRequests,
		Detail: fmt.Sprintf("your address has made more than %d requests in a minute, try again later",
			h.opts.PeerRequests),
	})
}

// noToken answers 401, as RFC 6750 wants it: without a token there is no error to name.
func noToken(w http.ResponseWriter, r *http.Request) {
	challenge := `Bearer realm="allocator"`
	detail := "this allocator wants a token: send it as Authorization: Bearer TOKEN"
	if token(r) != "" {
		challenge += `, error="invalid_token"`
		detail = "the token that was sent is not valid here; who runs the allocator has the valid ones"
	}
	w.Header().Set("WWW-Authenticate", challenge)
	writeProblem(w, r, problem{
		Type: typeNoToken, Title: "Token needed", Status: http.StatusUnauthorized, Detail: detail,
	})
}

// token returns the bearer token of a request; empty if it has none.
func token(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
