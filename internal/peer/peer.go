// Package peer tells clients apart by the network that they come from, and bounds what each of them may have at the
// same time and in a minute, so that one client cannot take everything from the others.
//
// A client is an IPv4 address, or the first 64 bits of an IPv6 address: whoever has one IPv6 address as a rule has all
// that begin with these bits. What has no such address (a pipe, a Unix socket) is one client together.
package peer

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Key is one client. It can be compared. The zero value is the client of all addresses that are no IP addresses.
type Key netip.Prefix

// ipv6Bits is how many bits of an IPv6 address tell clients apart: RFC 4291 has the rest for the interface.
const ipv6Bits = 64

// Of returns the client at an address, with or without a port: "192.0.2.1:443", "2001:db8::1".
func Of(address string) Key {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return Key{}
	}
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = ipv6Bits
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return Key{}
	}
	return Key(prefix)
}

// String returns the client as people write it: "192.0.2.1/32", "2001:db8::/64".
func (k Key) String() string {
	if k == (Key{}) {
		return "unknown"
	}
	return netip.Prefix(k).String()
}

// AtOnce bounds what each client has at the same time. Make it with NewAtOnce.
type AtOnce struct {
	most int

	mu  sync.Mutex
	has map[Key]int // guarded by mu; those that have none are not in it
}

// NewAtOnce returns a bound of so many for each client; 0 or less means that there is none.
func NewAtOnce(most int) *AtOnce { return &AtOnce{most: most, has: make(map[Key]int)} }

// Enter gives a client one more, and reports whether it may have it. If so, Leave must follow.
func (a *AtOnce) Enter(k Key) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.most > 0 && a.has[k] >= a.most {
		return false
	}
	a.has[k]++
	return true
}

// Leave takes back what Enter gave.
func (a *AtOnce) Leave(k Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.has[k]--; a.has[k] <= 0 {
		delete(a.has, k)
	}
}

// Rate bounds what each client takes in a minute: all of it at once, or in parts, as it comes back evenly over the
// minute. Make it with NewRate.
type Rate struct {
	most float64

	mu    sync.Mutex
	left  map[Key]balance // guarded by mu; those that have taken nothing for a minute need not be in it
	sweep int             // guarded by mu; at this many entries, those that need not be there are removed
	swept time.Time       // guarded by mu; when that was done last
}

type balance struct {
	left float64 // may be below 0
	at   time.Time
}

const (
	// leastSweep keeps a small table from being swept at every call.
	leastSweep = 1024
	// mostClients bounds the memory: further clients share one balance.
	mostClients = 100_000
)

// NewRate returns a bound of so much in a minute for each client; 0 or less means that there is none.
func NewRate(perMinute int) *Rate {
	return &Rate{most: float64(perMinute), left: make(map[Key]balance), sweep: leastSweep}
}

// Take takes n for a client, and reports whether the client had anything left. If it had, it may take more than that
// once, and gets that much less later. If it had not, nothing is taken. A clock that was set back takes nothing away.
func (r *Rate) Take(k Key, n int, now time.Time) bool {
	if r.most <= 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b, known := r.left[k]
	if !known {
		if since := now.Sub(r.swept); len(r.left) >= r.sweep && (since >= time.Second || since < 0) {
			r.sweepLocked(now)
		}
		if len(r.left) >= mostClients {
			k = Key{}
			b, known = r.left[k]
		}
	}
	if !known {
		b = balance{left: r.most, at: now}
	}
	b = r.refilled(b, now)
	may := b.left > 0
	if may {
		b.left -= float64(n)
	}
	r.left[k] = b
	return may
}

func (r *Rate) refilled(b balance, now time.Time) balance {
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(r.most, b.left+r.most*passed.Minutes())
	}
	b.at = now
	return b
}

// sweepLocked removes the clients that have all that they may have.
func (r *Rate) sweepLocked(now time.Time) {
	for k, b := range r.left {
		if r.refilled(b, now).left >= r.most {
			delete(r.left, k)
		}
	}
	r.sweep, r.swept = min(max(leastSweep, 2*len(r.left)), mostClients), now
}

// Clients returns how many clients are remembered.
func (r *Rate) Clients() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.left)
}
