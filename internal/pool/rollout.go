package pool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Drift is why an instance is outdated: how it differs from what a launch would make now. The empty value means that it
// is not outdated.
type Drift string

// The reasons, from the one that counts most. They are written into records and metrics, so their values must not
// change.
const (
	OtherImage    Drift = "image"    // it runs another image
	OtherSettings Drift = "settings" // it was told other things, or its machine was asked for in another way
	OtherType     Drift = "type"     // its type is not among those of the pool any more
	TooOld        Drift = "lifetime" // it has lived for the maximum lifetime
	OtherZone     Drift = "zone"     // its zone has more instances than another one that has room
)

// Drifts returns all reasons, from the one that counts most.
func Drifts() []Drift { return []Drift{OtherImage, OtherSettings, OtherType, TooOld, OtherZone} }

// Rollout says how outdated instances are replaced. The zero value replaces none.
type Rollout struct {
	MaxUnavailable int  // so many may be ended before what replaces them has reported
	MaxSurge       int  // so many may be launched beyond the number that the policy wants
	Paused         bool // outdated instances stay until this is false again
}

// On reports whether outdated instances are ever replaced.
func (r Rollout) On() bool { return r.MaxUnavailable > 0 || r.MaxSurge > 0 }

// Validate returns all that is wrong.
func (r Rollout) Validate() error {
	var errs []error
	if r.MaxUnavailable < 0 {
		errs = append(errs, fmt.Errorf("rollout: max_unavailable is %d: write 0 or more", r.MaxUnavailable))
	}
	if r.MaxSurge < 0 {
		errs = append(errs, fmt.Errorf("rollout: max_surge is %d: write 0 or more", r.MaxSurge))
	}
	if r.MaxUnavailable == 0 && r.MaxSurge == 0 {
		errs = append(errs, errors.New("rollout: max_unavailable and max_surge are both 0, so that nothing could "+
			"ever be replaced: set one of them to 1, or say paused: true"))
	}
	return errors.Join(errs...)
}

// Trial is what is remembered of the version that is launched now, until an instance of it has reported. The zero value
// is that of a version of which nothing is known.
type Trial struct {
	Version string
	Proven  bool         // an instance of this version has reported
	Trying  []InstanceID // of this version, have not reported, and the cloud announces no end of them; sorted
	// Failed has ended without having reported. Empty: none has. Once the version is proven it means nothing.
	Failed InstanceID
}

// Halted reports whether nothing is rolled out, because what was launched of this version has not reported.
func (t *Trial) Halted() bool { return t.Failed != "" && !t.Proven }

// Look returns the trial as it is after a look at the pool. hung are instances that are about to be ended because they
// are silent. An instance of Trying that is not there any more, or is ending, has failed.
func (t Trial) Look(s *Snapshot, hung []Ending) Trial {
	next := Trial{Version: s.Version}
	if t.Version == s.Version {
		next = t
	}
	for i := range s.Instances {
		if in := &s.Instances[i]; in.Current && in.hasReported() {
			next.Proven = true
		}
	}
	if next.Proven {
		next.Trying = nil
		return next
	}
	ending := endingsOf(hung)
	for _, id := range next.Trying {
		if in := s.Find(id); in == nil || in.State == Stopping || ending[id] {
			next.Failed = id
		}
	}
	next.Trying = nil
	for i := range s.Instances {
		if in := &s.Instances[i]; in.Current && in.State == Startup && !ending[in.ID] && in.Announced == "" {
			next.Trying = append(next.Trying, in.ID)
		}
	}
	return next
}

// Without returns the trial without instances that are ended for reasons that are not their fault.
func (t Trial) Without(list []Ending) Trial {
	spared := make(map[InstanceID]bool)
	for i := range list {
		spared[list[i].Instance] = !list[i].Cause.Failed()
	}
	t.Trying = slices.DeleteFunc(slices.Clone(t.Trying), func(id InstanceID) bool { return spared[id] })
	return t
}

// hasReported reports whether an instance has ever reported, to this controller or to one before it.
func (i *Instance) hasReported() bool {
	return i.State == Active || i.State == ShutDown || !i.ReportedAt.IsZero()
}

// Outdated returns how many instances that are capacity are outdated, by reason, without those that are themselves
// beyond the number that the policy wants.
func (s *Snapshot) Outdated() map[Drift]int {
	out := make(map[Drift]int)
	for i := range s.Instances {
		if in := &s.Instances[i]; in.Counted() && in.Drift != "" && !in.Surge {
			out[in.Drift]++
		}
	}
	return out
}

// Version returns what an instance is launched as, as it is written on the instance: how that is written, and two short
// texts that are the same for all that run the same image, and for all that are told and asked for alike.
func Version(image, settings string) string { return versionForm + "." + image + "." + settings }

// versionForm changes when the same configuration would give another version, because of a change of this program.
// Instances whose version has another form are not outdated for that reason.
const versionForm = "1"

// Drifted returns how an instance of version old differs from one of version now. An old version that is missing, or
// has another form, says nothing.
func Drifted(old, now string) Drift {
	was, is := parts(old), parts(now)
	switch {
	case was == nil || is == nil:
		return ""
	case was[1] != is[1]:
		return OtherImage
	case was[2] != is[2]:
		return OtherSettings
	}
	return ""
}

// Versioned reports whether a version is one that can be compared.
func Versioned(version string) bool { return parts(version) != nil }

// parts returns the parts of a version; nil if it has another form than those that are written now.
func parts(version string) []string {
	out := strings.Split(version, ".")
	if len(out) != 3 || out[0] != versionForm {
		return nil
	}
	return out
}

// Expired reports whether an instance has lived for the maximum lifetime; 0 means that there is none.
func (i *Instance) Expired(now time.Time, lifetime time.Duration) bool {
	return lifetime > 0 && now.Sub(i.Launched) >= lifetime
}
