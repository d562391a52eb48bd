package app

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/daemon"
	"cloudmaster/services/fib-server/internal/server"
)

const (
	defaultListen     = ":20808"
	defaultMaxClients = 10
)

const usage = `fib-server answers each line a TCP client sends with the next Fibonacci number.

Usage:
  %s [flags]

Flags:
%s`

type settings struct {
	flags *pflag.FlagSet

	listen, advertise, opsListen string
	maxClients, connectionLimit  int
	peerConnections, peerNumbers int
	peerBytes                    int
	idleTimeout, writeTimeout    time.Duration
	drainTimeout, statusInterval time.Duration
	lateClients                  time.Duration
}

// parse reads the settings. All other sources take precedence over the user data.
func parse(args []string, stdout io.Writer, me agent.UserData) (settings, error) {
	fs := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	fs.SetOutput(stdout)
	fs.Usage = func() {
		fmt.Fprintf(stdout, usage, Name, fs.FlagUsages())
	}
	s := settings{flags: fs}
	fs.StringVar(&s.listen, "listen", defaultListen, "`address` to take clients on")
	fs.StringVar(&s.advertise, "advertise", "", "`host:port` that clients are sent to "+
		"(default the listening address, with this machine's name for an open host)")
	fs.IntVar(&s.maxClients, "max-clients", defaultMaxClients, "clients that make a load of 1")
	fs.IntVar(&s.connectionLimit, "connection-limit", server.DefaultConnectionLimit,
		"clients beyond which more are refused")
	fs.IntVar(&s.peerConnections, "peer-connections", server.DefaultPeerConnections,
		"connections from one address (IPv6: one /64) beyond which more are refused; 0: no bound")
	fs.IntVar(&s.peerNumbers, "peer-numbers", server.DefaultPeerNumbers,
		"numbers in a minute after which one address is cut off; 0: no bound")
	fs.IntVar(&s.peerBytes, "peer-bytes", server.DefaultPeerBytes,
		"bytes of answers in a minute after which one address is cut off; 0: no bound")
	fs.DurationVar(&s.idleTimeout, "idle-timeout", server.DefaultIdleTimeout,
		"close a client that ends no line for this long")
	fs.DurationVar(&s.writeTimeout, "write-timeout", server.DefaultWriteTimeout,
		"close a client that takes no answers for this long")
	fs.DurationVar(&s.drainTimeout, "drain-timeout", server.DefaultDrainTimeout,
		"serve connected clients for this long after a stop signal")
	fs.DurationVar(&s.lateClients, "late-clients", server.DefaultLateClients,
		"take new clients for this long after a stop signal, until allocators know of it (by default at most as "+
			"long as --drain-timeout; without a controller none)")
	fs.StringVar(&s.opsListen, "ops-listen", "", "`address` for /healthz, /readyz and /metrics (default none)")
	fs.DurationVar(&s.statusInterval, "status-interval", cmp.Or(me.StatusInterval, agent.DefaultInterval),
		"report to the controller at least this often")
	if err := daemon.Parse(fs, args, me.Settings); err != nil {
		return settings{}, err
	}
	if !fs.Changed("late-clients") {
		s.lateClients = min(s.lateClients, s.drainTimeout)
	}
	if problems := s.problems(); len(problems) > 0 {
		return settings{}, daemon.Usagef("%s", strings.Join(problems, "\n"))
	}
	return s, nil
}

// problems names all that is wrong with the settings.
func (s *settings) problems() []string {
	var out []string
	if s.flags.NArg() > 0 {
		out = append(out, fmt.Sprintf("takes no arguments, got %q", s.flags.Args()))
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"max-clients", s.maxClients}, {"connection-limit", s.connectionLimit}} {
		if n.value < 1 {
			out = append(out, fmt.Sprintf("--%s must be at least 1, got %d", n.name, n.value))
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"peer-connections", s.peerConnections}, {"peer-numbers", s.peerNumbers}, {"peer-bytes", s.peerBytes}} {
		if n.value < 0 {
			out = append(out, fmt.Sprintf("--%s must be at least 0 (no bound), got %d", n.name, n.value))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"idle-timeout", s.idleTimeout},
		{"write-timeout", s.writeTimeout},
		{"drain-timeout", s.drainTimeout},
		{"status-interval", s.statusInterval},
	} {
		if d.value <= 0 {
			out = append(out, fmt.Sprintf("--%s must be more than 0, got %s", d.name, d.value))
		}
	}
	if s.lateClients < 0 || s.lateClients > s.drainTimeout {
		out = append(out, fmt.Sprintf("--late-clients must be from 0 to --drain-timeout, which is %s, got %s",
			s.drainTimeout, s.lateClients))
	}
	if s.advertise != "" {
		if host, port, err := net.SplitHostPort(s.advertise); err != nil || host == "" || port == "" {
			out = append(out, fmt.Sprintf("--advertise must be host:port, got %q", s.advertise))
		}
	}
	return out
}

// attrs are the settings for the log.
func (s *settings) attrs() []any {
	return []any{
		"max_clients", s.maxClients, "connection_limit", s.connectionLimit,
		"peer_connections", s.peerConnections, "peer_numbers", s.peerNumbers, "peer_bytes", s.peerBytes,
		"idle_timeout", s.idleTimeout.String(), "write_timeout", s.writeTimeout.String(),
		"drain_timeout", s.drainTimeout.String(), "late_clients", s.lateClients.String(),
		"status_interval", s.statusInterval.String(),
	}
}

// advertise returns the address that clients are sent to: --advertise (set) if given, or else the listening one with
// the host that the cloud's metadata has for this machine. Without metadata an open host (":20808") is replaced by this
// machine's name. If it has no name the address is empty, and the controller takes the one that the cloud lists.
func advertise(set, host string, listening net.Addr) string {
	tcp, ok := listening.(*net.TCPAddr)
	switch {
	case set != "":
		return set
	case ok && host != "": // a cloud's machine does not see its public address
		return net.JoinHostPort(host, fmt.Sprint(tcp.Port))
	case !ok || !tcp.IP.IsUnspecified():
		return listening.String()
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return net.JoinHostPort(host, fmt.Sprint(tcp.Port))
}
