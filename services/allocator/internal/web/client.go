package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// client returns the address by which requests for servers are counted: the peer's or, if the peer is a trusted proxy,
// the last address in X-Forwarded-For that is no trusted proxy. What stands before that one is not believed, because
// the client may have invented it.
func (h *Handler) client(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr // not a TCP listener: all its clients count as one
	}
	addr := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !h.trusted(addr) {
			break
		}
		next, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		addr = next.Unmap().WithZone("")
	}
	return addr.String()
}

func (h *Handler) trusted(addr netip.Addr) bool {
	return slices.ContainsFunc(h.opts.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}
