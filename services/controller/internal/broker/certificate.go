package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"time"
)

// Generated is the tls_certificate that the broker makes itself.
const Generated = "generated"

// The validity of what is generated. It does not depend on the clock, which may be wrong at the first start.
var (
	validFrom  = time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(2050, time.January, 1, 0, 0, 0, 0, time.UTC)
)

// TLS says how the broker proves who it is. The zero value means no TLS.
type TLS struct {
	Certificate string   // a file, with the chain; or Generated
	Key         string   // the file with the private key
	ClientCA    string   // a file; clients must show a certificate that one of these authorities has signed
	Names       []string // further host names and addresses for a generated certificate
}

func (t *TLS) on() bool { return t.Certificate != "" }

// check returns what is wrong, each error beginning with its key.
func (t *TLS) check() error {
	var errs []error
	switch {
	case t.Certificate == "" && t.Key != "":
		errs = append(errs, errors.New("tls_certificate: is empty, but there is a tls_key: name its file"))
	case t.Certificate != "" && t.Certificate != Generated && t.Key == "":
		errs = append(errs, errors.New("tls_key: is empty: name the file with the private key of tls_certificate"))
	case t.Certificate == Generated && t.Key != "":
		errs = append(errs, errors.New("tls_key: is made together with a generated tls_certificate: leave it out"))
	}
	if t.ClientCA != "" && t.Certificate == "" {
		errs = append(errs, errors.New("tls_client_ca: needs TLS: set tls_certificate"))
	}
	if len(t.Names) > 0 && t.Certificate != Generated {
		errs = append(errs, errors.New("tls_names: are only for tls_certificate: generated"))
	}
	return errors.Join(errs...)
}

// config returns how to speak TLS, and the file with the authority that clients must trust; empty if it is not ours.
func (t *TLS) config(a *access, host string) (conf *tls.Config, ca string, err error) {
	conf = &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ClientCA != "" {
		doc, err := os.ReadFile(t.ClientCA)
		if err != nil {
			return nil, "", fmt.Errorf("tls_client_ca: %w", err)
		}
		conf.ClientCAs, conf.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !conf.ClientCAs.AppendCertsFromPEM(doc) {
			return nil, "", fmt.Errorf("tls_client_ca: %s has no certificate in PEM form", t.ClientCA)
		}
	}
	if t.Certificate != Generated {
		conf.GetCertificate, err = fromFiles(t.Certificate, t.Key)
		return conf, "", err
	}
	authority, key, err := a.authority()
	if err != nil {
		return nil, "", fmt.Errorf("tls_certificate: %w", err)
	}
	cert, err := issue(authority, key, append(ownNames(host), t.Names...), x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, "", fmt.Errorf("tls_certificate: %w", err)
	}
	conf.Certificates = []tls.Certificate{cert}
	return conf, a.path(caFile), nil
}

// fromFiles reads the certificate anew for each connection, so that it can be renewed while the controller runs. Files
// that cannot be read later, because they are being replaced, leave the last one in use.
func fromFiles(cert, key string) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	first, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls_certificate, tls_key: %w", err)
	}
	last := make(chan tls.Certificate, 1) // whoever has the value may change it
	last <- first
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		now := <-last
		if fresh, err := tls.LoadX509KeyPair(cert, key); err == nil {
			now = fresh
		}
		last <- now
		return &now, nil
	}, nil
}

// ownNames are the names and addresses by which clients may reach this machine.
func ownNames(host string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	if ip := net.ParseIP(host); host != "" && !ip.IsUnspecified() {
		return append(names, host)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return names
	}
	for _, one := range addresses {
		if n, ok := one.(*net.IPNet); ok && !n.IP.IsLoopback() {
			names = append(names, n.IP.String())
		}
	}
	return names
}

// authority returns what signs the broker's certificate. It is made at the first start.
func (a *access) authority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	keyDoc, err := readPrivate(a.path(caKeyFile))
	if err == nil {
		var certDoc []byte
		if certDoc, err = os.ReadFile(a.path(caFile)); err == nil {
			return a.parse(certDoc, keyDoc)
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return a.newAuthority()
}

func (a *access) parse(certDoc, keyDoc []byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	damaged := fmt.Errorf("%s or %s is damaged: remove both, and new ones are made, which clients then need",
		a.path(caFile), a.path(caKeyFile))
	certBlock, _ := pem.Decode(certDoc)
	keyBlock, _ := pem.Decode(keyDoc)
	if certBlock == nil || keyBlock == nil {
		return nil, nil, damaged
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", damaged, err)
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", damaged, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, damaged
	}
	return cert, key, nil
}

// newAuthority writes the key first, so that a certificate without key never stays behind: what is half there is made
// anew.
func (a *access) newAuthority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	form := template("CloudMaster broker")
	form.IsCA, form.BasicConstraintsValid, form.MaxPathLenZero = true, true, true
	form.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	keyDoc := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	if err := a.write(caKeyFile, keyDoc); err != nil {
		return nil, nil, err
	}
	return cert, key, a.write(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(random()[:16]), Subject: pkix.Name{CommonName: name},
		NotBefore: validFrom, NotAfter: validUntil,
	}
}

// issue makes a certificate for these names. It is made at each start and never written.
func issue(
	authority *x509.Certificate, signer *ecdsa.PrivateKey, names []string, usage x509.ExtKeyUsage,
) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	form := template("CloudMaster broker")
	form.KeyUsage, form.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{usage}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			form.IPAddresses = append(form.IPAddresses, ip)
		} else {
			form.DNSNames = append(form.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, form, authority, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
