package broker_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/broker"
)

// TestLines checks which lines of a client pass, and how many bytes follow each.
func TestLines(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int64{
		"CONNECT {\"user\":\"a\"}\r\n":         -1,
		"PING\r\n":                             -1,
		"SUB _INBOX.a.> 1\r\n":                 -1,
		"UNSUB 1 5\r\n":                        -1,
		"PUB a 5\r\n":                          5,
		"PUB a _INBOX.b 0\r\n":                 0,
		"PUB\ta 5\r\n":                         -2,
		"PUB a  _INBOX.b\t12\r\n":              12,
		"HPUB a 12 20\r\n":                     20,
		"HPUB a _INBOX.b 12 20\r\n":            20,
		"PUB a $JS.API.STREAM.DELETE.x 0\r\n":  -2,
		"HPUB a $JS.API.X 1 2\r\n":             -2,
		"PUB a _INBOX 0\r\n":                   -2,
		"pub a $JS.API.STREAM.DELETE.x 0\r\n":  -2,
		"PUB a b c 0\r\n":                      -2,
		"PUB a 5\n":                            -2,
		"PUB a\r5 5\r\n":                       -2,
		"PUB a\v_INBOX.b 5\r\n":                -2,
		"PUB a -5\r\n":                         -2,
		"PUB a +5\r\n":                         -2,
		"PUB a 99999999999\r\n":                -2,
		"PUB a\r\n":                            -2,
		"SUB a 1\rPUB a b 0\r\n":               -2,
		"MSG a 1 5\r\n":                        -2,
		"\r\n":                                 -2,
		" PUB a $JS.API.STREAM.DELETE.x 0\r\n": -2,
	} {
		got, err := broker.Payload([]byte(line))
		if want == -2 && errors.Is(err, broker.ErrForbidden) {
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d (-2: refused)", line, got, err, want)
		}
	}
}

// TestPass checks that the body of a message is never taken for lines, however it is cut.
func TestPass(t *testing.T) {
	t.Parallel()
	said := "CONNECT {}\r\nPUB a 23\r\nPUB a $JS.API.X 0\r\nPING\r\nPING\r\nPUB b 0\r\n\r\n"
	var out bytes.Buffer
	err := broker.Pass(&out, strings.NewReader(said))
	if out.String() != said || errors.Is(err, broker.ErrForbidden) {
		t.Errorf("got %q, %v, want all of it", out.String(), err)
	}
	out.Reset()
	err = broker.Pass(&out, strings.NewReader("PUB a 2\r\nabcPUB a $JS.API.X 0\r\n\r\n"))
	if !errors.Is(err, broker.ErrForbidden) || strings.Contains(out.String(), "$JS") {
		t.Errorf("a body that is too long: got %q, %v, want it refused", out.String(), err)
	}
}

// far is an address of this machine that is not loopback; the test is skipped if it has none.
func far(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	must(t, "addresses", err)
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

// secured starts a broker that other machines can reach, and returns its address for them.
func secured(t *testing.T, more broker.TLS) (b *broker.Broker, address string) {
	t.Helper()
	host := far(t)
	if more.Certificate == "" {
		more.Certificate = broker.Generated
	}
	opts := broker.Options{Listen: host + ":0", StoreDir: t.TempDir(), Logins: true, TLS: more}
	opts.AllFar()
	b, err := broker.Start(t.Context(), opts)
	must(t, "start", err)
	t.Cleanup(func() { must(t, "close", b.Close()) })
	return b, b.URL()
}

func tryOpen(t *testing.T, address string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := backend.Open(ctx, address, backend.Openers{"nats": natsbackend.Open}, backend.Options{})
	if err == nil {
		must(t, "close", b.Close())
	}
	return err
}

// TestTLS checks that a broker that other machines can reach speaks to them with TLS only, and proves who it is.
func TestTLS(t *testing.T) {
	t.Parallel()
	b, address := secured(t, broker.TLS{})
	files, err := b.Hand("").Pool("primes", queues)
	must(t, "logins", err)
	if files.CA == "" {
		t.Fatal("got no authority, want the file with the generated one")
	}
	login := address + "?credentials=" + files.Worker
	must(t, "with the authority", tryOpen(t, login+"&ca="+files.CA))
	if err := tryOpen(t, login); !errors.Is(err, queue.ErrDenied) || !strings.Contains(err.Error(), "?ca=FILE") {
		t.Errorf("without the authority: got %v, want an error that says how to name it", err)
	}
	if err := tryOpen(t, address+"?ca="+files.CA); !errors.Is(err, queue.ErrDenied) {
		t.Errorf("without login: got %v, want %v", err, queue.ErrDenied)
	}
	must(t, "again after a restart of the client", tryOpen(t, login+"&ca="+files.CA))

	// Who does not want TLS gets nowhere: not a word of the login is read in clear.
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "nats://"))
	must(t, "dial", err)
	defer func() { _ = c.Close() }()
	_, err = c.Write([]byte("CONNECT {\"user\":\"controller\",\"pass\":\"x\"}\r\nPING\r\n"))
	must(t, "speak in clear", err)
	var heard bytes.Buffer
	_, _ = heard.ReadFrom(c)
	if got := heard.String(); !strings.HasPrefix(got, "INFO ") || strings.Contains(got, "PONG") ||
		strings.Contains(got, "Authorization") {
		t.Errorf("in clear: got %q, want the greeting and the end", got)
	}
}

// between is a connection between two addresses.
type between struct {
	net.Conn

	from, to string
}

func (b between) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(b.from)} }
func (b between) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.ParseIP(b.to)} }

// TestNear: a connection from this machine comes over loopback, or from the address that it goes to.
func TestNear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		near     bool
	}{
		{"127.0.0.1", "127.0.0.1", true},
		{"192.0.2.2", "192.0.2.2", true},
		{"192.0.2.2", "::ffff:192.0.2.2", true},
		{"192.0.2.3", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::1", true},
		{"2001:db8::1", "2001:db8::2", false},
	} {
		if got := broker.IsNear(between{from: c.from, to: c.to}); got != c.near {
			t.Errorf("from %s to %s: got %t, want %t", c.from, c.to, got, c.near)
		}
	}
}

// TestOwnAddressNeedsNoTLS checks that the controller, and its instances on this machine, can use a broker that listens
// on an address of this machine which is not loopback.
func TestOwnAddressNeedsNoTLS(t *testing.T) {
	t.Parallel()
	b, err := broker.Start(t.Context(), broker.Options{
		Listen: far(t) + ":0", StoreDir: t.TempDir(), Logins: true, TLS: broker.TLS{Certificate: broker.Generated},
	})
	must(t, "start", err)
	t.Cleanup(func() { must(t, "close", b.Close()) })
	files, err := b.Hand("").Pool("primes", queues)
	must(t, "logins", err)
	must(t, "its own address", tryOpen(t, b.URL()+"?credentials="+files.Worker))
}

// TestNearNeedsNoTLS checks that programs of this machine can use a broker with TLS by its loopback address, with TLS
// and without.
func TestNearNeedsNoTLS(t *testing.T) {
	t.Parallel()
	b, err := broker.Start(t.Context(), broker.Options{
		Listen: ":0", StoreDir: t.TempDir(), Logins: true, TLS: broker.TLS{Certificate: broker.Generated},
	})
	must(t, "start", err)
	t.Cleanup(func() { must(t, "close", b.Close()) })
	if !strings.HasPrefix(b.URL(), "nats://127.0.0.1:") {
		t.Errorf("got address %s, want loopback", b.URL())
	}
	must(t, "in clear", tryOpen(t, b.Own()))
	must(t, "with TLS", tryOpen(t, b.Own()+"&ca="+b.CA()))
}

// TestClientCertificates checks that a broker that wants certificates of its clients takes nobody from elsewhere
// without.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	first, _ := secured(t, broker.TLS{}) // its authority signs the certificate of a client, too
	access := filepath.Dir(first.CA())
	cert, key := clientCertificate(t, access)
	second, address := secured(t, broker.TLS{ClientCA: first.CA()})
	files, err := second.Hand("").Pool("primes", queues)
	must(t, "logins", err)
	login := address + "?credentials=" + files.Worker + "&ca=" + files.CA
	must(t, "with a certificate", tryOpen(t, login+"&cert="+cert+"&key="+key))
	if err := tryOpen(t, login); !errors.Is(err, queue.ErrDenied) || !strings.Contains(err.Error(), "cert and key") {
		t.Errorf("without: got %v, want an error that says how to show one", err)
	}
}

// clientCertificate makes files with a certificate that the authority in a directory has signed, and its key.
func clientCertificate(t *testing.T, access string) (cert, key string) {
	t.Helper()
	certDoc, keyDoc, err := broker.Issue(access)
	must(t, "issue", err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, "write", errors.Join(os.WriteFile(cert, certDoc, 0o600), os.WriteFile(key, keyDoc, 0o600)))
	return cert, key
}

// TestCertificateFromFiles checks that a certificate in files is used, and is read anew when it is replaced.
func TestCertificateFromFiles(t *testing.T) {
	t.Parallel()
	signer, _ := secured(t, broker.TLS{})
	access := filepath.Dir(signer.CA())
	cert, key := clientCertificate(t, access)
	_, address := secured(t, broker.TLS{Certificate: cert, Key: key})
	shown := func() string {
		pool := x509.NewCertPool()
		doc, err := os.ReadFile(signer.CA())
		must(t, "read", err)
		pool.AppendCertsFromPEM(doc)
		var serial string
		nc, err := nats.Connect(address, nats.UserInfo("x", "y"), nats.Secure(&tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: pool, InsecureSkipVerify: true, //nolint:gosec // only looks
			VerifyConnection: func(s tls.ConnectionState) error {
				serial = s.PeerCertificates[0].SerialNumber.String()
				return nil
			},
		}))
		if err == nil {
			nc.Close()
		}
		return serial
	}
	before := shown()
	certDoc, keyDoc, err := broker.Issue(access)
	must(t, "issue", err)
	must(t, "write half of it", os.WriteFile(cert, certDoc, 0o600))
	if got := shown(); got != before {
		t.Errorf("while the files do not fit: got certificate %s, want the last good one, %s", got, before)
	}
	must(t, "write the rest", os.WriteFile(key, keyDoc, 0o600))
	if got := shown(); got == before || got == "" {
		t.Errorf("got certificate %q, want the new one", got)
	}
}
