package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cloudmaster/internal/kind"
)

// Restart returns what differs between a configuration that runs and a new one that only a restart of the
// controller can change: all but the pools, and clouds that no pool has used before.
func Restart(runs, next *Config) error {
	var errs []error
	differs := func(key, a, b string) {
		if a != b {
			errs = append(errs, fmt.Errorf("%s has changed, which needs a restart of the controller: "+
				"restart it, or take the change back", key))
		}
	}
	differs("deployment", runs.Deployment, next.Deployment)
	differs("backend", runs.Backend.Address, next.Backend.Address)
	if runs.Backend.Address == next.Backend.Address {
		differs(runs.Backend.Kind.Section, kind.Text(runs.Backend.Settings), kind.Text(next.Backend.Settings))
	}
	differs("worker_backend", runs.WorkerBackend, next.WorkerBackend)
	differs("ops_listen", runs.OpsListen, next.OpsListen)
	differs("log_level", runs.LogLevel, next.LogLevel)
	differs(keyReport, reportsText(runs.Reports), reportsText(next.Reports))
	for _, name := range slices.Sorted(maps.Keys(next.Clouds)) {
		if old, ok := runs.Clouds[name]; ok {
			fresh := next.Clouds[name]
			differs(keyClouds+"."+string(name), old.text(), fresh.text())
		}
	}
	return errors.Join(errs...)
}

func (c *Cloud) text() string {
	return fmt.Sprintf("%s %s\n%s", c.Kind.Name, c.AuditInterval, kind.Text(c.Settings))
}

func reportsText(list []Report) string {
	var out strings.Builder
	for _, one := range list {
		fmt.Fprintf(&out, "%s\n%s", one.Kind.Name, kind.Text(one.Settings))
	}
	return out.String()
}

func (p *Policy) text() string {
	text := p.Kind.Name + "\n" + kind.Text(p.Settings)
	if p.Base != nil {
		text += "over " + p.Base.text()
	}
	return text
}

// Revision is the same for pools that are configured alike, and only for them.
func (p *Pool) Revision() string {
	onCloud := ""
	if p.OnCloud != nil {
		onCloud = kind.Text(p.OnCloud)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %+v %+v %+v %+v %q %t %q %d %t %d %q %#v %s",
		p.Name, p.Image, p.Cloud, p.OnRemove, p.Policy.text(), p.Limits, p.Watchdog, p.Times, p.Queues,
		p.StatusParser, p.VerifySender, p.ActiveSet, p.ServicePort, p.AnyAddress, p.Warm, onCloud, p.Settings,
		p.rolloutText()))
	return hex.EncodeToString(sum[:])
}
