package broker

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"cloudmaster/internal/peer"
	"cloudmaster/services/controller/internal/quota"
)

// What one that has not logged in may take. Programs log in within milliseconds and try again if they are refused, so
// these are far above what a deployment needs, also when all its instances come back at once after a restart of the
// controller. Those of this machine have their own number, so that strangers cannot keep them out, and no bound for
// each address, because they share one. Each costs about 70 KiB, which makes 70 MB for all together.
const (
	mostWaiting     = 500 // from other machines, and as many from this one
	mostPeerWaiting = 100 // from one address of another machine
)

// Why a client of the broker was refused, for the metric.
const (
	refusedLogin     = "login"     // its login was wrong
	refusedSilent    = "silent"    // it did not log in within the time
	refusedWaiting   = "waiting"   // too many had not logged in yet
	refusedForbidden = "forbidden" // it said what it must not say
	refusedDeaf      = "deaf"      // it did not read what it was sent
)

// visitors are the clients at the gate, from their connection to their login, and what is told of those that are
// refused.
type visitors struct {
	log     *slog.Logger
	refused func(reason string) // may be nil

	mu      sync.Mutex
	far     int // guarded by mu; that have not logged in
	near    int // guarded by mu; the same, from this machine
	peers   *peer.AtOnce
	known   map[uint64]*visitor // guarded by mu; that have not logged in, by the server's number of the connection
	warning quota.Lines         // guarded by mu
}

// visitor is one of them. Its fields are guarded by the mu of visitors.
type visitor struct {
	from    net.Addr
	near    bool
	waiting bool   // it has not logged in yet
	wrong   bool   // its login was wrong
	number  uint64 // the server's; 0: not known yet
}

func newVisitors(o *Options) *visitors {
	return &visitors{
		log: o.Log, refused: o.Refused, known: make(map[uint64]*visitor), peers: peer.NewAtOnce(mostPeerWaiting),
	}
}

// enter notes a client that has just connected; nil if too many wait. If it is not nil, leave must follow.
func (v *visitors) enter(from net.Addr, near bool) *visitor {
	if !v.room(from, near) {
		v.turnAway(refusedWaiting, "the broker refused a connection, because too many have not logged in yet", from)
		return nil
	}
	return &visitor{from: from, near: near, waiting: true}
}

func (v *visitors) room(from net.Addr, near bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if near {
		if v.near >= mostWaiting {
			return false
		}
		v.near++
		return true
	}
	if v.far >= mostWaiting || !v.peers.Enter(peer.Of(from.String())) {
		return false
	}
	v.far++
	return true
}

// number notes which connection the server knows a client by, before it can log in.
func (v *visitors) number(one *visitor, number uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	one.number = number
	v.known[number] = one
}

// in notes that a client need not wait any more.
func (v *visitors) in(one *visitor) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.inLocked(one)
}

func (v *visitors) inLocked(one *visitor) {
	if !one.waiting {
		return
	}
	one.waiting = false
	delete(v.known, one.number)
	if one.near {
		v.near--
		return
	}
	v.far--
	v.peers.Leave(peer.Of(one.from.String()))
}

// loggedIn notes the outcome of a login at the server's connection with this number.
func (v *visitors) loggedIn(number uint64, user string, ok bool) {
	v.mu.Lock()
	one := v.known[number]
	switch {
	case one == nil:
	case ok:
		v.inLocked(one)
	default:
		one.wrong = true
	}
	v.mu.Unlock()
	if one != nil && !ok {
		v.turnAway(refusedLogin, "a login at the broker failed", one.from, "user", string(clip([]byte(user))))
	}
}

// leave notes the end of a connection.
func (v *visitors) leave(one *visitor) {
	v.mu.Lock()
	silent := one.waiting && !one.wrong
	v.inLocked(one)
	v.mu.Unlock()
	if silent {
		v.count(refusedSilent)
	}
}

func (v *visitors) count(reason string) {
	if v.refused != nil {
		v.refused(reason)
	}
}

// turnAway counts a client that is refused, and logs it, ten a minute at most.
func (v *visitors) turnAway(reason, text string, from net.Addr, more ...any) {
	v.count(reason)
	v.mu.Lock()
	say, unsaid := v.warning.May(time.Now())
	v.mu.Unlock()
	if say {
		v.log.WarnContext(context.Background(), text, //nolint:sloglint // the callers' texts are constant
			append([]any{"from", from.String(), "not_logged_before", unsaid}, more...)...)
	}
}
