package app

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/hint"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/allocate"
	"cloudmaster/services/allocator/internal/refresh"
	"cloudmaster/services/allocator/internal/request"
)

// Settings are what the allocator is told.
type Settings struct {
	Listen     string // host:port, for clients
	OpsListen  string // host:port, for health, metrics and the view of pools; empty: none
	Backend    string // its address
	Deployment string // part of the names of queues and store; may be empty
	Pools      []PoolSettings
	Refresh    time.Duration // between two reads of the store
	Request    time.Duration // for how long a client that found no server is not counted again
	Forget     time.Duration // how long an assignment counts that no report confirms
	Proxies    []netip.Prefix

	TokenFile       string // with the tokens of which clients must show one; empty: they need none
	Certificate     string // file; empty: no TLS
	Key             string // file with the key of Certificate
	PeerConnections int    // that one client address may have at once; 0: no bound
	PeerRequests    int    // that one client address may make in a minute; 0: no bound
}

const (
	// defaultPeerConnections is as many as fib-server takes of one address: what one program needs is one, and behind
	// one address there may be the programs of a whole site, whose connections are short.
	defaultPeerConnections = 100
	// defaultPeerRequests lets a site of thousands of clients, which all have one address, ask again at once when their
	// server is gone. An allocator answers 20,000 in a second or more, so it takes 200 such addresses to fill it.
	defaultPeerRequests = 6000
)

// PoolSettings are those of one pool.
type PoolSettings struct {
	Name       pool.Name
	Queue      string  // work queue
	Hints      string  // the queue for hints; empty: none are sent
	ClientLoad float64 // what one client adds to an instance's load
}

// flags are the settings as they are written on the command line, and what finish makes of them.
type flags struct {
	Settings
	pools, loads, proxies []string
}

// Parse reads the settings from the command line, the environment and a file (see daemon.Parse). One error names all
// that is wrong.
func Parse(args []string, stdout, stderr io.Writer) (Settings, *slog.Logger, error) {
	var f flags
	fs := f.flagSet()
	fs.SetOutput(stdout)
	if err := daemon.Parse(fs, args, nil); err != nil {
		return Settings{}, nil, err
	}
	log := daemon.Logger(stderr, fs)
	if err := f.finish(); err != nil {
		return Settings{}, nil, daemon.Usagef("%v", err)
	}
	return f.Settings, log, nil
}

func (f *flags) flagSet() *pflag.FlagSet {
	fs := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	fs.StringVar(&f.Listen, "listen", defaultListen, "`HOST:PORT` to take clients on")
	fs.StringVar(&f.OpsListen, "ops-listen", defaultOps,
		"`HOST:PORT` for /healthz, /readyz, /metrics and the view of pools; empty: none")
	fs.StringVar(&f.Backend, "backend", "nats://127.0.0.1:4222",
		"`ADDRESS` of the backend that has the active sets and the work queues")
	fs.StringVar(&f.Deployment, "deployment", "", "`NAME` of the deployment")
	fs.StringSliceVar(&f.pools, "pool", nil,
		"`POOL` to allocate from, or POOL=QUEUE if its work queue is not POOL-work[-DEPLOYMENT]; repeatable")
	fs.DurationVar(&f.Refresh, "refresh-interval", refresh.DefaultInterval, "how often the active sets are read")
	fs.DurationVar(&f.Request, "request-interval", request.DefaultInterval,
		"how long a client that found no server is not counted again")
	fs.StringSliceVar(&f.loads, "client-load", []string{strconv.FormatFloat(allocate.DefaultClientLoad, 'g', -1, 64)},
		"`LOAD` that one client adds to a server, or POOL=LOAD for one pool; repeatable")
	fs.DurationVar(&f.Forget, "forget-after", allocate.DefaultForget,
		"how long a client counts that its server does not report; must be longer than a report takes to get here")
	fs.StringSliceVar(&f.proxies, "trusted-proxy", nil,
		"`CIDR` of proxies whose X-Forwarded-For is believed; repeatable")
	fs.StringVar(&f.TokenFile, "token-file", "",
		"`FILE` with tokens, one in each line, of which clients must send one; empty: they need none")
	fs.StringVar(&f.Certificate, "tls-certificate", "", "`FILE` with the certificate for clients; empty: no TLS")
	fs.StringVar(&f.Key, "tls-key", "", "`FILE` with the private key of --tls-certificate")
	fs.IntVar(&f.PeerConnections, "peer-connections", defaultPeerConnections,
		"connections from one address (IPv6: one /64) beyond which more are refused; 0: no bound")
	fs.IntVar(&f.PeerRequests, "peer-requests", defaultPeerRequests,
		"requests in a minute after which one address is refused; 0: no bound")
	return fs
}

// finish turns the texts into values.
func (f *flags) finish() error {
	return errors.Join(
		f.finishPools(),
		f.finishLoads(),
		f.finishProxies(),
		positive("refresh-interval", f.Refresh),
		positive("request-interval", f.Request),
		positive("forget-after", f.Forget),
		notNegative("peer-connections", f.PeerConnections),
		notNegative("peer-requests", f.PeerRequests),
		f.checkAddresses(),
		f.checkTLS(),
	)
}

// defaultListen and defaultOps are where an allocator listens unless it is told otherwise.
const (
	defaultListen = "127.0.0.1:20809"
	defaultOps    = "127.0.0.1:20811"
)

// checkAddresses finds what is wrong before anything is opened, so that it is said together with all else.
func (f *flags) checkAddresses() error {
	errs := []error{hostPort("listen", f.Listen, defaultListen)}
	if f.OpsListen != "" {
		errs = append(errs, hostPort("ops-listen", f.OpsListen, defaultOps))
	}
	return errors.Join(errs...)
}

// hostPort refuses what is no address to listen on. The port may be 0, for any that is free, or have a name, which is
// looked up when it is listened on.
func hostPort(key, text, example string) error {
	_, port, err := net.SplitHostPort(text)
	if n, notANumber := strconv.Atoi(port); err != nil || notANumber == nil && (n < 0 || n > math.MaxUint16) {
		return fmt.Errorf("%s: %q is not HOST:PORT, as %s", key, text, example)
	}
	return nil
}

func (f *flags) checkTLS() error {
	switch {
	case f.Certificate == "" && f.Key != "":
		return errors.New("tls-certificate: is missing, but there is a tls-key: name its file")
	case f.Certificate != "" && f.Key == "":
		return errors.New("tls-key: is missing: name the file with the private key of tls-certificate")
	}
	return nil
}

func (f *flags) finishPools() error {
	var errs []error
	if len(f.pools) == 0 {
		errs = append(errs, errors.New("pool: name at least one pool, as in --pool fib"))
	}
	for _, text := range f.pools {
		name, queue, named := strings.Cut(text, "=")
		if err := checkName(name); err != nil {
			errs = append(errs, fmt.Errorf("pool %q: %w", text, err))
			continue
		}
		if named && queue == "" {
			errs = append(errs, fmt.Errorf("pool %q: the queue's name is missing behind =", text))
		}
		if f.find(name) != nil {
			errs = append(errs, fmt.Errorf("pool %q: it is given twice", name))
			continue
		}
		hints := hint.Queue(queue)
		if !named {
			queue, hints = queueName(name, "work", f.Deployment), hint.QueueOf(f.Deployment)
		}
		f.Pools = append(f.Pools, PoolSettings{Name: pool.Name(name), Queue: queue, Hints: hints})
	}
	return errors.Join(errs...)
}

// checkName refuses names that cannot be part of a blob's key or of a path.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the pool's name is missing")
	case strings.Contains(name, "/"):
		return errors.New("a pool's name has no slash")
	}
	return blob.CheckKey(activeset.Key(pool.Name(name)))
}

// queueName is the name that the controller gives a pool's queue.
func queueName(name, use, deployment string) string {
	if deployment == "" {
		return name + "-" + use
	}
	return name + "-" + use + "-" + deployment
}

// finishLoads gives every pool the load without a name, and then those that name one.
func (f *flags) finishLoads() error {
	var errs []error
	common := allocate.DefaultClientLoad
	named := map[*PoolSettings]float64{}
	for _, text := range f.loads {
		name, value, isNamed := strings.Cut(text, "=")
		if !isNamed {
			value = text
		}
		load, err := parseLoad(value)
		p := f.find(name)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("client-load %q: %w", text, err))
		case !isNamed:
			common = load
		case p == nil:
			errs = append(errs, fmt.Errorf("client-load %q: there is no pool %q", text, name))
		default:
			named[p] = load
		}
	}
	for i := range f.Pools {
		p := &f.Pools[i]
		p.ClientLoad = common
		if load, ok := named[p]; ok {
			p.ClientLoad = load
		}
	}
	return errors.Join(errs...)
}

func parseLoad(text string) (float64, error) {
	load, err := strconv.ParseFloat(text, 64)
	if err != nil || !pool.ValidLoad(load) || load == 0 {
		return 0, errors.New("a load is a number above 0")
	}
	return load, nil
}

func (f *flags) finishProxies() error {
	var errs []error
	for _, text := range f.proxies {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("trusted-proxy %q: it is not like 10.0.0.0/8", text))
			continue
		}
		f.Proxies = append(f.Proxies, prefix)
	}
	return errors.Join(errs...)
}

func (f *flags) find(name string) *PoolSettings {
	i := slices.IndexFunc(f.Pools, func(p PoolSettings) bool { return string(p.Name) == name })
	if i < 0 {
		return nil
	}
	return &f.Pools[i]
}

func positive(key string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%s: %v is not above 0", key, d)
	}
	return nil
}

func notNegative(key string, n int) error {
	if n < 0 {
		return fmt.Errorf("%s: %d is below 0: write 0 for no bound, or how many there may be", key, n)
	}
	return nil
}
