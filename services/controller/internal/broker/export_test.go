package broker

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"path/filepath"
	"time"

	"cloudmaster/internal/backend"
)

// Hand returns what hands out the broker's logins.
func (b *Broker) Hand(deployment string) backend.Logins {
	return &logins{access: b.let, deployment: deployment, address: b.URL(), ca: b.ca}
}

// AllFar makes a broker take all connections for ones from other machines.
func (o *Options) AllFar() { o.near = func(net.Conn) bool { return false } }

// Impatient makes a broker wait for its clients for this long at most.
func (o *Options) Impatient(d time.Duration) { o.wait = timeouts{handshake: d, login: d, write: d} }

// Connections is how many are open at the gate.
func (b *Broker) Connections() int {
	b.gate.mu.Lock()
	defer b.gate.mu.Unlock()
	return len(b.gate.open)
}

// The bounds of those that have not logged in.
const (
	MostWaiting     = mostWaiting
	MostPeerWaiting = mostPeerWaiting
)

// IsNear is isNear.
var IsNear = isNear

// CA is the file with the authority that clients from elsewhere must trust.
func (b *Broker) CA() string { return b.ca }

// Payload is payload.
var Payload = payload

// Pass is pass.
var Pass = pass

// ErrForbidden is errForbidden.
var ErrForbidden = errForbidden

// Issue makes a certificate for clients and servers, signed by the authority in the directory access of a store.
func Issue(access string) (cert, key []byte, err error) {
	a, err := openAccess(filepath.Dir(access))
	if err != nil {
		return nil, nil, err
	}
	authority, signer, err := a.authority()
	if err != nil {
		return nil, nil, err
	}
	pair, err := issue(authority, signer, []string{"client"}, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
