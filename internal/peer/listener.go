package peer

import (
	"net"
	"net/netip"
	"sync"
)

// Listener bounds how many connections each client has at the same time. Make it with Limit.
type Listener struct {
	net.Listener

	open    *AtOnce
	exempt  func(netip.Addr) bool
	refused func()
}

// Limit returns a listener that closes at once what a client has beyond so many connections; 0 or less means that there
// is no bound. Addresses for which exempt says so, such as proxies that many clients share, have none. The function
// refused is called for each connection that is closed. Both functions may be nil.
func Limit(l net.Listener, most int, exempt func(netip.Addr) bool, refused func()) *Listener {
	return &Listener{Listener: l, open: NewAtOnce(most), exempt: exempt, refused: refused}
}

// Accept returns the next connection that its client may have.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.free(c.RemoteAddr()) {
			return c, nil
		}
		who := Of(c.RemoteAddr().String())
		if l.open.Enter(who) {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { l.open.Leave(who) })}, nil
		}
		_ = c.Close() // nobody waits for what is lost
		if l.refused != nil {
			l.refused()
		}
	}
}

func (l *Listener) free(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && l.exempt != nil && l.exempt(tcp.AddrPort().Addr().Unmap().WithZone(""))
}

// counted is a connection that its client has until it is closed.
type counted struct {
	net.Conn

	leave func()
}

// Close closes the connection; the client may then have another one.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
