package natsbackend

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"
)

// InboxPrefix begins all subjects on which programs get answers.
const InboxPrefix = nats.InboxPrefix

// login is what a program shows the broker to be let in.
type login struct {
	user, password string
	sender         string      // whom the login belongs to; empty: it does not say
	inbox          string      // begins the subjects that we listen to; empty: any
	apply          nats.Option // how a login without password is shown; nil: there is none
}

// access is all that a connection needs beside the address.
type access struct {
	login login
	tls   *tls.Config // nil: TLS only if the broker wants it
}

// Inbox returns how the subjects begin on which a user gets answers. Nobody else may listen there, so what the broker
// sends to one program is not seen by others.
func Inbox(user string) string {
	sum := sha256.Sum256([]byte(user))
	return InboxPrefix + hex.EncodeToString(sum[:12])
}

// Login is the content of a file for the option credentials. The sender may be empty.
func Login(user, password, sender string) []byte {
	out := fmt.Appendf(nil, "user: %s\npassword: %s\n", user, password)
	if sender != "" {
		out = fmt.Appendf(out, "sender: %s\n", sender)
	}
	return out
}

func (a access) apply(o *nats.Options) {
	o.User, o.Password, o.InboxPrefix = a.login.user, a.login.password, cmp.Or(a.login.inbox, o.InboxPrefix)
	if a.tls != nil {
		o.Secure, o.TLSConfig = true, a.tls
	}
	if a.login.apply != nil {
		_ = a.login.apply(o) // nats.go refuses nothing of these
	}
}

// access reads the files that the address names.
func (t target) access() (access, error) {
	a := access{login: login{user: t.user, password: t.password}}
	if t.credentials != "" {
		var err error
		if a.login, err = readLogin(t.credentials); err != nil {
			return access{}, fmt.Errorf("option credentials: %w", err)
		}
	}
	if t.password != "" {
		a.login.inbox = Inbox(t.user)
	}
	if !t.tls {
		return a, nil
	}
	var err error
	a.tls, err = t.config()
	return a, err
}

// config is how we speak TLS.
func (t target) config() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		doc, err := read(t.ca)
		if err != nil {
			return nil, fmt.Errorf("option ca: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(doc) {
			return nil, fmt.Errorf("option ca: %s has no certificate in PEM form", t.ca)
		}
	}
	if t.cert == "" {
		return out, nil
	}
	cert, err := read(t.cert)
	if err != nil {
		return nil, fmt.Errorf("option cert: %w", err)
	}
	key, err := read(t.key)
	if err != nil {
		return nil, fmt.Errorf("option key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("options cert and key: %w", err)
	}
	out.Certificates = []tls.Certificate{pair}
	return out, nil
}

var variable = regexp.MustCompile(`^\$([A-Za-z_][A-Za-z0-9_]*)`)

// locate puts the value of a variable of the environment where a file's name begins with it.
func locate(name string) (string, error) {
	found := variable.FindStringSubmatch(name)
	if found == nil {
		return name, nil
	}
	value := os.Getenv(found[1])
	if value == "" {
		return "", fmt.Errorf("%s: the variable %s is not set in the environment of this program", name, found[1])
	}
	return value + name[len(found[0]):], nil
}

func read(name string) ([]byte, error) {
	path, err := locate(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

const (
	begin = "-----BEGIN NATS USER JWT-----" // of a credentials file of NATS
	wants = "want a credentials file of NATS, an nkey seed, or the lines \"user: NAME\" and \"password: TEXT\""
)

// readLogin reads a file to log in with. Its errors show nothing of the content.
func readLogin(name string) (login, error) {
	doc, err := read(name)
	if err != nil {
		return login{}, err
	}
	path, err := locate(name)
	if err != nil {
		return login{}, err
	}
	switch text := bytes.TrimSpace(doc); {
	case bytes.Contains(text, []byte(begin)):
		return login{apply: nats.UserCredentials(path)}, nil
	case bytes.HasPrefix(text, []byte("SU")) && !bytes.ContainsAny(text, " :\n"):
		option, err := nats.NkeyOptionFromSeed(path)
		if err != nil {
			return login{}, fmt.Errorf("%s has no valid nkey seed of a user", name)
		}
		return login{apply: option}, nil
	}
	l, err := parseLogin(string(doc))
	if err != nil {
		return login{}, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// parseLogin reads what the function Login writes.
func parseLogin(doc string) (login, error) {
	var l login
	for number, line := range strings.Split(doc, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "user":
			l.user = value
		case "password":
			l.password = value
		case "sender":
			l.sender = value
		default:
			return login{}, fmt.Errorf("line %d is none of user, password and sender: %s", number+1, wants)
		}
	}
	if l.user == "" || l.password == "" {
		return login{}, errors.New("user or password is missing: " + wants)
	}
	l.inbox = Inbox(l.user)
	return l, nil
}
