package natsbackend

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"cloudmaster/internal/backend"
)

const (
	defaultPort  = "4222"
	mostReplicas = 5 // of JetStream
)

// target is an address, taken apart.
type target struct {
	servers        []string // nats://host:port each
	user, password string
	replicas       int // 0: not given

	credentials   string // a file, see readLogin
	ca, cert, key string // files with certificates and the private key of cert; empty: not given
	tls           bool   // TLS is required
}

// String names the servers, without the password.
func (t target) String() string { return strings.Join(t.servers, ",") }

// parse takes an address apart and refuses what it does not know.
func parse(address *url.URL) (target, error) {
	var t target
	t.user = address.User.Username()
	t.password, _ = address.User.Password()
	for host := range strings.SplitSeq(address.Host, ",") {
		server, err := withPort(host)
		if err != nil {
			return target{}, err
		}
		t.servers = append(t.servers, "nats://"+server)
	}
	if strings.Trim(address.Path, "/") != "" || address.Fragment != "" {
		return target{}, fmt.Errorf("nothing may follow the host but options, as in ?replicas=3&tls=true; got %q",
			address.Path+address.Fragment)
	}
	if err := t.readQuery(address.RawQuery); err != nil {
		return target{}, err
	}
	return t, t.check()
}

// options are those of an address.
var options = []string{"ca", "cert", "credentials", "key", "replicas", "tls"}

func (t *target) readQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		if err := t.set(key, query.Get(key)); err != nil {
			return err
		}
	}
	return nil
}

// set sets one option. Its errors never show the value of a file's option, because somebody may have written there what
// belongs into the file.
func (t *target) set(key, value string) (err error) {
	switch key {
	case "replicas":
		t.replicas, err = strconv.Atoi(value)
		if err != nil || t.replicas < 1 || t.replicas > mostReplicas {
			return fmt.Errorf("option replicas=%s: want a number from 1 to %d", value, mostReplicas)
		}
	case "tls":
		if t.tls, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("option tls=%s: want true or false", value)
		}
	case "credentials":
		t.credentials, err = file(key, value)
	case "ca":
		t.ca, err = file(key, value)
	case "cert":
		t.cert, err = file(key, value)
	case "key":
		t.key, err = file(key, value)
	default:
		return fmt.Errorf("unknown option %q: there are %s", key, strings.Join(options, ", "))
	}
	return err
}

// file returns the value of an option that names a file.
func file(key, value string) (string, error) {
	switch {
	case value == "":
		return "", fmt.Errorf("option %s is empty: name a file", key)
	case backend.Secret(value):
		return "", fmt.Errorf("option %s holds a secret: write that into a file and name the file", key)
	}
	return value, nil
}

// check refuses options that do not go together.
func (t *target) check() error {
	switch {
	case (t.cert == "") != (t.key == ""):
		return errors.New("the options cert and key go together: name both files, or none")
	case t.credentials != "" && t.user != "":
		return errors.New("there are a user in front of the @ and the option credentials: keep one of them")
	}
	t.tls = t.tls || t.ca != "" || t.cert != ""
	return nil
}

// withPort returns host:port of a server.
func withPort(host string) (string, error) {
	if host == "" {
		return "", errors.New("a host name is empty: write nats://HOST or nats://HOST:PORT")
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil { // no port
		name, port = strings.Trim(host, "[]"), defaultPort
	}
	if name == "" || port == "" {
		return "", fmt.Errorf("host %q: write HOST or HOST:PORT", host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("host %q: port %q is not a number from 1 to 65535", host, port)
	}
	return net.JoinHostPort(name, port), nil
}
