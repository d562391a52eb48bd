package natsbackend

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
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
		return target{}, fmt.Errorf("nothing may follow the host but ?replicas=N, got %q", address.RequestURI())
	}
	err := t.readQuery(address.RawQuery)
	return t, err
}

func (t *target) readQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	for key, values := range query {
		if key != "replicas" {
			return fmt.Errorf("unknown option %q: only replicas is known", key)
		}
		t.replicas, err = strconv.Atoi(values[len(values)-1])
		if err != nil || t.replicas < 1 || t.replicas > mostReplicas {
			return fmt.Errorf("option replicas=%s: want a number from 1 to %d", values[len(values)-1], mostReplicas)
		}
	}
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
