package roster

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Present returns how many instances there are, whatever their state, without those that the cloud has
// accepted to end.
func (r *Roster) Present() int {
	return len(r.which(func(rec *record) bool { return rec.phase != cloud.Terminating && rec.ended.IsZero() }))
}

// doubtful reports whether an instance may have been ended by a controller before this one: the newest list lacks it,
// this controller has not launched it, and it has reported nothing since that list was asked for.
func (r *Roster) doubtful(rec *record) bool {
	return rec.missing && !rec.ours && !rec.ReportedAt.After(r.listed)
}

// Serving returns the members of the active set, sorted by id: the instances that are active and not about to end, have
// an address, are not doubtful, and whose tags do not say that they are draining. The tags matter because a controller
// that takes over goes by them. Until an instance has reported to this controller, its load is the one that the
// controller before this one published.
func (r *Roster) Serving() []activeset.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []activeset.Instance{}
	for id, rec := range r.records {
		if rec.State != pool.Active || rec.Interrupted || rec.tagged == pool.ShutDown || r.address(rec) == "" ||
			r.doubtful(rec) {
			continue
		}
		member := activeset.Instance{ID: id, Address: r.address(rec), Load: rec.Load, ReportedAt: rec.ReportedAt}
		if rec.ReportedAt.IsZero() {
			member.Load, member.ReportedAt = rec.seed.Load, rec.seed.ReportedAt
		}
		out = append(out, member)
	}
	slices.SortFunc(out, func(a, b activeset.Instance) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Instances returns all instances as a snapshot needs them, sorted by id.
func (r *Roster) Instances(now time.Time) []pool.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]pool.Instance, 0, len(r.records))
	byID := func(a, b *record) int { return cmp.Compare(a.ID, b.ID) }
	for _, rec := range slices.SortedFunc(maps.Values(r.records), byID) { // instances are large, and sorting moves much
		in := rec.Instance
		in.Address = r.address(rec)
		in.HeardAt = r.heardAt(rec, now)
		in.Drift, in.Current = r.drift(rec, now)
		out = append(out, in)
	}
	return out
}

// heardAt returns from when the silence of an instance counts: at the earliest from when statuses could reach
// this controller (again), because before that nobody could be heard.
func (r *Roster) heardAt(rec *record, now time.Time) time.Time {
	if r.listening.IsZero() {
		return now
	}
	if rec.HeardAt.Before(r.listening) {
		return r.listening
	}
	return rec.HeardAt
}

// Strangers lists the active instances that report an address at a host that is not theirs, sorted.
func (r *Roster) Strangers() []pool.InstanceID {
	return r.which(func(rec *record) bool {
		return rec.State == pool.Active && rec.said != "" && !r.believes(rec)
	})
}

// believes reports whether clients may be sent to the address that the instance has reported.
func (r *Roster) believes(rec *record) bool {
	if r.opts.AnyAddress || len(rec.hosts) == 0 {
		return true
	}
	host, _, err := net.SplitHostPort(rec.said)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(rec.hosts, func(known string) bool { return strings.EqualFold(known, host) })
}

// address returns the address that the instance has reported, and none if that is not believed. Of an instance that
// reports none it is the cloud's address with the port of the pool's service.
func (r *Roster) address(rec *record) string {
	if rec.said != "" {
		if r.believes(rec) {
			return rec.said
		}
		return ""
	}
	if rec.host == "" || r.opts.ServicePort == 0 {
		return ""
	}
	return net.JoinHostPort(rec.host, strconv.Itoa(r.opts.ServicePort))
}
