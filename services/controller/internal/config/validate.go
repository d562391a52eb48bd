package config

import (
	"cmp"
	"log/slog"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/queue"
)

// name is what deployments, pools and clouds may be called: it becomes part of
// queue names, file names, tags and environment variables.
var name = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

const nameRule = "not a name: lower-case letters, digits and dashes, beginning with a letter, at most 32"

// validate complains about everything that can be read and makes no sense.
func (r *reader) validate(c *Config) {
	if c.Deployment != "" && !name.MatchString(c.Deployment) {
		r.complain([]string{"deployment"}, "%q is %s", c.Deployment, nameRule)
	}
	if without := strings.TrimSuffix("-"+c.Deployment, queue.DeadLetters("")); without != "-"+c.Deployment {
		r.complain([]string{"deployment"}, "%q would have queues with the names of the dead letters of deployment %q: "+
			"choose another name", c.Deployment, strings.TrimPrefix(without, "-"))
	}
	if c.OpsListen != "" && !hostPort(c.OpsListen) {
		r.complain([]string{"ops_listen"}, "%q is not HOST:PORT", c.OpsListen)
	}
	if new(slog.LevelVar).UnmarshalText([]byte(c.LogLevel)) != nil {
		r.complain([]string{"log_level"}, "%q is not debug, info, warn or error", c.LogLevel)
	}
	r.validateBackend(c)
	for _, one := range c.Reports {
		r.complainEach([]string{keyReport}, one.Settings.Validate())
	}
	for _, key := range slices.Sorted(maps.Keys(c.Clouds)) {
		r.validateCloud(c.Clouds[key])
	}
	if len(c.Pools) == 0 {
		r.complain([]string{keyPools}, "there is no pool: add one, as in deploy/local")
	}
	queues := make(map[string]string)
	for _, q := range c.Shared() {
		queues[q.Name] = "the queue of the deployment's " + string(q.Use)
		queues[queue.DeadLetters(q.Name)] = "for the dead letters of the deployment's " + string(q.Use)
	}
	for _, key := range slices.Sorted(maps.Keys(c.Pools)) {
		p := c.Pools[key]
		r.validatePool(c, &p)
		r.validateQueues(&p, queues)
	}
}

// validateBackend checks the address of the backend, as the controller and as instances have it.
func (r *reader) validateBackend(c *Config) {
	if k := &c.Backend.Kind; k.Name != "" {
		r.complainEach([]string{cmp.Or(k.Section, "backend")}, c.Backend.Settings.Validate())
		if r.validateAddress("backend", c.Backend.Address, k) && k.CheckDeployment != nil {
			if err := k.CheckDeployment(c.Backend.Address, c.Deployment); err != nil {
				r.complain([]string{"deployment"}, "%v", err)
			}
		}
	}
	if c.WorkerBackend != "" {
		if k, known := r.kinds.backend(c.WorkerBackend); known && k.Form != "" {
			r.validateAddress("worker_backend", c.WorkerBackend, &k)
		} else {
			r.complain([]string{"worker_backend"}, "%s is not %s", quoted(c.WorkerBackend), r.kinds.addresses())
		}
	}
	if strings.Contains(cmp.Or(c.WorkerBackend, c.Backend.Address), "@") {
		r.complain([]string{"worker_backend"},
			"instances would be told the credentials of the broker in their user data: name an address without")
	}
}

// validateAddress checks an address of a kind, and reports whether it is valid.
func (r *reader) validateAddress(key, address string, k *backend.Kind) bool {
	if k.Check == nil {
		return true
	}
	err := k.Check(address)
	if err != nil {
		r.complain([]string{key}, "%s is not %s: %v", quoted(address), k.Addresses(), err)
	}
	return err == nil
}

// quoted is an address for messages.
func quoted(address string) string { return strconv.Quote(backend.Redacted(address)) }

// notABackend says what a backend may be.
func (k *Kinds) notABackend(address string) string {
	var plain []string
	for i := range k.Backends {
		if k.Backends[i].Form == "" {
			plain = append(plain, k.Backends[i].Name)
		}
	}
	return quoted(address) + " is neither " + strings.Join(append(plain, k.addresses()), " nor ")
}

// addresses are those of all backends that have one, in words.
func (k *Kinds) addresses() string {
	var forms []string
	for i := range k.Backends {
		if f := k.Backends[i].Form; f != "" {
			forms = append(forms, f)
		}
	}
	return "an address as " + strings.Join(forms, " or ")
}

func hostPort(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n <= 65535
}

func (r *reader) validateCloud(c Cloud) {
	path := []string{keyClouds, string(c.Name)}
	if !name.MatchString(string(c.Name)) {
		r.complain(path, "%q is %s", c.Name, nameRule)
	}
	if c.Kind.Name != "" && c.AuditInterval < time.Second {
		r.complain(append(path, "audit_instance_interval"), "%s is less than 1s", c.AuditInterval)
	}
	r.complainEach(path, c.Settings.Validate())
}

func (r *reader) validatePool(c *Config, p *Pool) {
	here := []string{keyPools, string(p.Name)}
	at := func(k string) []string { return append(slices.Clone(here), k) }
	if !name.MatchString(string(p.Name)) {
		r.complain(here, "%q is %s", p.Name, nameRule)
	}
	judge := policy.Judge{Limits: p.Limits}
	if p.Policy.known() {
		made, err := p.Judge()
		if judge.Policy = made.Policy; err != nil {
			r.complainEach(here, err)
			judge.Policy = nil // its limits can be judged all the same
		}
	}
	r.complainEach(here, judge.Check())
	r.validatePlace(c, p)
	if p.OnRemove != Drain && p.OnRemove != Leave {
		r.complain(at("on_remove"), "%q is not %s or %s", p.OnRemove, Drain, Leave)
	}
	if message.Parsers()[p.StatusParser] == nil {
		r.complain(at("status_parser"), "there is no parser %q: there are %s",
			p.StatusParser, strings.Join(slices.Sorted(maps.Keys(message.Parsers())), ", "))
	}
	if p.ActiveSet != ActiveSetNone && p.ActiveSet != ActiveSetBlob {
		r.complain(at("active_set_type"), "%q is not %s or %s", p.ActiveSet, ActiveSetNone, ActiveSetBlob)
	}
	if p.ServicePort < 0 || p.ServicePort > 65535 {
		r.complain(at("service_port"), "%d is not a TCP port", p.ServicePort)
	}
	if ratio := p.Watchdog.BreakerRatio; !(ratio > 0 && ratio <= 1) { // so that NaN is neither
		r.complain(at("breaker_ratio"), "%v is not above 0 and at most 1", ratio)
	}
	if _, err := (agent.UserData{Settings: p.Settings}).Encode(); err != nil {
		r.complain(at("settings"), "%v", err)
	}
	r.validateTimes(p)
	r.validateRollout(p)
	if check := c.Backend.Kind.CheckQueue; check != nil {
		for _, q := range p.Queues {
			r.complainEach(here, check(q.Limits))
		}
	}
}

// known reports whether the policy, and the one that it changes, exist.
func (p *Policy) known() bool { return p.Kind.New != nil && (p.Base == nil || p.Base.known()) }

func (r *reader) validateTimes(p *Pool) {
	for _, f := range []struct {
		key          string
		value, least time.Duration
	}{
		{"policy_interval", p.Times.PolicyInterval, time.Second},
		{"poll_interval", p.Times.PollInterval, time.Second},
		{"status_interval", p.Times.StatusInterval, 100 * time.Millisecond},
		{"report_interval", p.Times.ReportInterval, time.Second},
		{"active_set_interval", p.Times.ActiveSetInterval, 100 * time.Millisecond},
		{"watchdog_interval", p.Watchdog.Interval, 0},
		{"boot_deadline", p.Watchdog.BootDeadline, 0},
	} {
		if f.value < f.least {
			r.complain([]string{keyPools, string(p.Name), f.key}, "%s is less than %s", f.value, f.least)
		}
	}
	if silence := p.Watchdog.Interval; silence > 0 && silence < 2*p.Times.StatusInterval {
		r.complain([]string{keyPools, string(p.Name), "watchdog_interval"},
			"%s is less than twice status_interval, %s: healthy instances would count as hung",
			silence, p.Times.StatusInterval)
	}
}

// validatePlace checks that the pool's instances can be launched on its cloud, and reach the backend from there.
func (r *reader) validatePlace(c *Config, p *Pool) {
	here := []string{keyPools, string(p.Name)}
	at := func(k string) []string { return append(slices.Clone(here), k) }
	if p.Image == "" {
		r.complain(at(keyImage), "is missing: name what the pool's instances run")
	}
	if p.Cloud == "" {
		r.complain(at(keyCloud), "is missing: name one of the clouds")
		return
	}
	where, ok := c.Clouds[p.Cloud]
	if !ok {
		var all []string
		for _, key := range slices.Sorted(maps.Keys(c.Clouds)) {
			all = append(all, string(key))
		}
		r.complain(at(keyCloud), "there is no cloud %q: there are %s", p.Cloud, strings.Join(all, ", "))
		return
	}
	if p.OnCloud != nil {
		r.complainEach(here, p.OnCloud.Validate())
	}
	r.validateWarm(p, &where)
	if check := where.Kind.CheckPool; check != nil && p.Image != "" {
		r.complainEach(here, check(where.Settings, c.Deployment, cloud.PoolSpec{
			Name: p.Name, Image: p.Image, ServicePort: p.ServicePort, Warm: p.Warm, Settings: p.OnCloud,
		}))
	}
	if where.Kind.Remote {
		r.validateReach(c)
	}
}

// validateReach checks that instances on other machines can use the address that they are told.
func (r *reader) validateReach(c *Config) {
	key, told := "backend", c.Backend.Address
	if c.WorkerBackend != "" {
		key, told = "worker_backend", c.WorkerBackend
	}
	k, known := r.kinds.backend(told)
	if !known || k.CheckRemote == nil || k.Check != nil && k.Check(told) != nil {
		return
	}
	if err := k.CheckRemote(told); err != nil {
		r.complain([]string{key}, "%v", err)
	}
}
