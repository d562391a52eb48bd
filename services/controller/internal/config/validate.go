package config

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/sqsqueue"
)

// name is what deployments, pools and clouds may be called: it becomes part of
// queue names, file names, tags and environment variables.
var name = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// queueName is what SQS and JetStream both take.
var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,70}$`)

// program is what the image of a process may be called.
var program = regexp.MustCompile(`^[a-z0-9-]+$`)

const nameRule = "not a name: lower-case letters, digits and dashes, beginning with a letter, at most 32"

// Reports are the names that the key report takes.
var reports = []string{"console", "log"}

// validate complains about everything that makes no sense.
func (d *document) validate(c *Config) error {
	var errs []error
	complain := func(path []string, format string, args ...any) {
		errs = append(errs, d.problem(path, format, args...))
	}
	if c.Deployment != "" && !name.MatchString(c.Deployment) {
		complain([]string{"deployment"}, "%q is %s", c.Deployment, nameRule)
	}
	d.validateBackend(c, complain)
	if c.OnAWS() {
		validateBucket(c, complain)
	}
	if new(slog.LevelVar).UnmarshalText([]byte(c.LogLevel)) != nil {
		complain([]string{"log_level"}, "%q is not debug, info, warn or error", c.LogLevel)
	}
	for _, r := range c.Report {
		if !slices.Contains(reports, r) {
			complain([]string{"report"}, "%q is not one of %s", r, strings.Join(reports, ", "))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Clouds)) {
		d.validateCloud(key, c.Clouds[key], complain)
	}
	if len(c.Pools) == 0 {
		complain([]string{keyPools}, "there is no pool: add one, as in deploy/local")
	}
	queues := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(c.Pools)) {
		p := c.Pools[key]
		d.validatePool(c, &p, complain)
		d.validateQueues(&p, queues, complain)
		if c.OnAWS() {
			d.validateOnSQS(&p, complain)
		}
	}
	return errors.Join(errs...)
}

// validateBackend checks the addresses of the broker, and those that we listen on.
func (d *document) validateBackend(c *Config, complain complainFunc) {
	if why := backendAddress(c.Backend); c.Backend != Embedded && why != "" {
		complain([]string{"backend"}, "%q is neither %s nor %s", backend.Redacted(c.Backend), Embedded, why)
	}
	switch {
	case c.WorkerBackend != "" && backendAddress(c.WorkerBackend) != "":
		complain([]string{"worker_backend"}, "%q is not %s", backend.Redacted(c.WorkerBackend), backendAddress(c.WorkerBackend))
	case strings.Contains(cmp.Or(c.WorkerBackend, c.Backend), "@"):
		complain([]string{"worker_backend"}, "instances would be told the credentials of the broker in their user data: name an address without")
	}
	if c.Backend == Embedded {
		if !hostPort(c.Broker.Listen) {
			complain([]string{"broker", "listen"}, "%q is not HOST:PORT", c.Broker.Listen)
		}
		if c.Broker.StoreDir == "" {
			complain([]string{"broker", "store_dir"}, "is empty: name a directory")
		}
	}
	if c.OpsListen != "" && !hostPort(c.OpsListen) {
		complain([]string{"ops_listen"}, "%q is not HOST:PORT", c.OpsListen)
	}
}

// awsForm begins what is said of an address on AWS that is wrong.
const awsForm = "an address as aws://eu-west-1"

// backendAddress returns "" if a backend can be at the address, else what it should be.
func backendAddress(text string) string {
	if strings.HasPrefix(text, "nats://") && len(text) > len("nats://") {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "aws" {
		return "an address as nats://HOST:4222 or aws://eu-west-1"
	}
	if _, err := awsconf.ParseAddress(u); err != nil {
		return awsForm + ": " + err.Error()
	}
	return ""
}

func hostPort(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n <= 65535
}

type complainFunc func(path []string, format string, args ...any)

func (d *document) validateCloud(key string, c Cloud, complain complainFunc) {
	at := func(k string) []string { return []string{keyClouds, key, k} }
	if !name.MatchString(key) {
		complain([]string{keyClouds, key}, "%q is %s", key, nameRule)
	}
	switch c.Type {
	case ProcessCloud:
	case EC2Cloud:
		d.validateEC2(key, &c, complain)
	default:
		complain(at(keyType), "%q is not a type of cloud: there are %s and %s", c.Type, ProcessCloud, EC2Cloud)
	}
	if c.AuditInterval < time.Second {
		complain(at("audit_instance_interval"), "%s is less than 1s", c.AuditInterval)
	}
	if c.TerminateGrace < 0 {
		complain(at("terminate_grace"), "%s is less than 0", c.TerminateGrace)
	}
	if c.Capacity < 0 {
		complain(at("capacity"), "%d is less than 0", c.Capacity)
	}
}

func (d *document) validatePool(c *Config, p *Pool, complain complainFunc) {
	here := []string{keyPools, string(p.Name)}
	at := func(k string) []string { return append(slices.Clone(here), k) }
	if !name.MatchString(string(p.Name)) {
		complain(here, "%q is %s", p.Name, nameRule)
	}
	if _, known := Policies()[p.Policy]; !known {
		complain(at("policy"), "there is no policy %q: there are %s", p.Policy, strings.Join(slices.Sorted(maps.Keys(Policies())), ", "))
	} else if _, err := p.Judge(); err != nil {
		complainEach(here, err, complain)
	}
	complainEach(here, p.Limits().Validate(), complain)
	d.validateImage(c, p, complain)
	if message.Parsers()[p.StatusParser] == nil {
		complain(at("status_parser"), "there is no parser %q: there are %s", p.StatusParser, strings.Join(slices.Sorted(maps.Keys(message.Parsers())), ", "))
	}
	if p.ActiveSetType != ActiveSetNone && p.ActiveSetType != ActiveSetBlob {
		complain(at("active_set_type"), "%q is not %s or %s", p.ActiveSetType, ActiveSetNone, ActiveSetBlob)
	}
	if p.OnRemove != OnRemoveLeave && p.OnRemove != OnRemoveDrain {
		complain(at("on_remove"), "%q is not %s or %s", p.OnRemove, OnRemoveLeave, OnRemoveDrain)
	}
	if p.ServicePort < 0 || p.ServicePort > 65535 {
		complain(at("service_port"), "%d is not a TCP port", p.ServicePort)
	}
	if p.MaxDeliveries < 1 {
		complain(at("max_deliveries"), "%d is less than 1", p.MaxDeliveries)
	}
	if !(p.BreakerRatio > 0 && p.BreakerRatio <= 1) { // so that NaN is neither
		complain(at("breaker_ratio"), "%v is not above 0 and at most 1", p.BreakerRatio)
	}
	if _, err := (agent.UserData{Settings: p.Settings}).Encode(); err != nil {
		complain(at("settings"), "%v", err)
	}
	d.validateTimes(p, complain)
}

func (d *document) validateTimes(p *Pool, complain complainFunc) {
	for _, f := range []struct {
		key          string
		value, least time.Duration
	}{
		{"policy_interval", p.PolicyInterval, time.Second},
		{"poll_interval", p.PollInterval, time.Second},
		{"status_interval", p.StatusInterval, 100 * time.Millisecond},
		{"report_interval", p.ReportInterval, time.Second},
		{"visibility_timeout", p.VisibilityTimeout, time.Second},
		{"active_set_interval", p.ActiveSetInterval, 100 * time.Millisecond},
		{"watchdog_interval", p.WatchdogInterval, 0},
		{"boot_deadline", p.BootDeadline, 0},
	} {
		if f.value < f.least {
			complain([]string{keyPools, string(p.Name), f.key}, "%s is less than %s", f.value, f.least)
		}
	}
	if p.WatchdogInterval > 0 && p.WatchdogInterval < 2*p.StatusInterval {
		complain([]string{keyPools, string(p.Name), "watchdog_interval"},
			"%s is less than twice status_interval, %s: healthy instances would count as hung", p.WatchdogInterval, p.StatusInterval)
	}
}

// validateImage checks that there is something to launch.
func (d *document) validateImage(c *Config, p *Pool, complain complainFunc) {
	at := func(k string) []string { return []string{keyPools, string(p.Name), k} }
	if p.Image == "" {
		complain(at("image"), "is missing: name what the pool's instances run")
	}
	if p.Cloud == "" {
		complain(at("cloud"), "is missing: name one of the clouds")
		return
	}
	where, ok := c.Clouds[p.Cloud]
	if !ok {
		complain(at("cloud"), "there is no cloud %q: there are %s", p.Cloud, strings.Join(slices.Sorted(maps.Keys(c.Clouds)), ", "))
		return
	}
	if where.Type == EC2Cloud {
		d.validateOnEC2(c, p, complain)
		return
	}
	d.refuseMachine(p, complain)
	if p.Image == "" {
		return
	}
	if !program.MatchString(p.Image) {
		complain(at("image"), "%q is not the name of a program in bin_dir: lower-case letters, digits and dashes", p.Image)
		return
	}
	file := filepath.Join(where.BinDir, p.Image)
	if info, err := os.Stat(file); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		complain(at("image"), "there is no program %s: build it (make build), or correct bin_dir", file)
	}
}

// validateOnSQS checks what SQS minds and other brokers do not.
func (d *document) validateOnSQS(p *Pool, complain complainFunc) {
	complainEach([]string{keyPools, string(p.Name)}, sqsqueue.CheckLimits(p.WorkLimits()), complain)
}

func (d *document) validateQueues(p *Pool, taken map[string]string, complain complainFunc) {
	for _, q := range []struct{ key, name string }{{"work_queue_name", p.WorkQueue}, {"status_queue_name", p.StatusQueue}} {
		path := []string{keyPools, string(p.Name), q.key}
		if !queueName.MatchString(q.name) {
			complain(path, "%q is not a queue name: letters, digits, - and _, at most 70", q.name)
		}
		what := strings.TrimSuffix(strings.ReplaceAll(q.key, "_", " "), " name") + " of " + string(p.Name)
		for name, use := range map[string]string{q.name: "the " + what, queue.DeadLetters(q.name): "for the dead letters of the " + what} {
			if other, ok := taken[name]; ok {
				complain(path, "%s is already %s", name, other)
			}
			taken[name] = use
		}
	}
}

// complainEach splits joined errors so that each stands on its own line with its place.
func complainEach(path []string, err error, complain complainFunc) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		complain(path, "%s", line)
	}
}
