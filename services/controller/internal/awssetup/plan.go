package awssetup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cloudmaster/internal/awsconf"
)

// verb is what a plan does with a thing.
type verb string

const (
	create verb = "create"
	change verb = "change"
	keep   verb = "keep"
	use    verb = "use"
	remove verb = "remove"
	leave  verb = "leave"
)

// past is how a verb is reported when it is done.
var past = map[verb]string{create: "created", change: "changed", remove: "removed"}

// The kinds of things.
const (
	kindQueue   = "queue"
	kindBucket  = "bucket"
	kindRights  = "queue policy"
	kindRule    = "event rule"
	kindGroup   = "security group"
	kindRole    = "role"
	kindProfile = "instance profile"
	kindLinked  = "service-linked role"
)

const (
	// notOurs is the note on things that exist and do not carry our tags.
	notOurs = "not made by setup"
	// noRegion is the note on what is in IAM and carries our tags, but not that of a region.
	noRegion = "an earlier version made it, and it may be in use in any region: delete it by hand when no instance " +
		"uses it any more"
)

// thing is one line of a plan.
type thing struct {
	verb       verb
	kind, name string
	note       string                      // what differs, or why it is left alone
	do         func(context.Context) error // nil if nothing is done
}

// String is the line.
func (t thing) String() string {
	line := fmt.Sprintf("%s %s %s", t.verb, t.kind, t.name)
	switch {
	case t.note == "":
		return line
	case t.do == nil:
		return line + " (" + t.note + ")"
	}
	return line + ": " + t.note
}

// plan is what is to be done, in order, and the reasons for which none of it can be.
type plan struct {
	things   []thing
	refusals []error
}

func (p *plan) add(t thing) { p.things = append(p.things, t) }

// refuse notes what has to be put right by hand.
func (p *plan) refuse(format string, args ...any) {
	p.refusals = append(p.refusals, fmt.Errorf(format, args...))
}

// refuseOthers refuses things that setup made for another deployment whose names happen to be the same, and
// reports whether it did. Such a thing must not be used: it has the rights of the other deployment, and is
// removed together with it.
func (p *plan) refuseOthers(kind, name, deployment string, tags map[string]string) bool {
	owner, made := awsconf.Owner(tags)
	if !made || owner == deployment {
		return false
	}
	p.refuse("%s %s belongs to deployment %q: rename this deployment or its pool, so that their names do not meet",
		kind, name, owner)
	return true
}

// refuseOthersIn does so for things in IAM, which is one for all regions: it also refuses those that setup made for
// another region, because a running controller there relies on them.
func (p *plan) refuseOthersIn(kind, name, deployment, region string, tags map[string]string) bool {
	if p.refuseOthers(kind, name, deployment, tags) {
		return true
	}
	if !awsconf.Ours(tags, deployment) || tags[awsconf.TagRegion] == region {
		return false
	}
	p.refuse("%s %s was made for region %q, and this is %s: name another one in instance_profile, or rename this "+
		"deployment or its pool, so that their names do not meet", kind, name, tags[awsconf.TagRegion], region)
	return true
}

func (p *plan) print(out io.Writer) {
	for _, t := range p.things {
		fmt.Fprintln(out, t)
	}
}

// refused returns all reasons for which the plan cannot be carried out.
func (p *plan) refused() error {
	if len(p.refusals) == 0 {
		return nil
	}
	return fmt.Errorf("this cannot work, and nothing was changed:\n%w", errors.Join(p.refusals...))
}

// work is the number of things that are created, changed or removed.
func (p *plan) work() int {
	n := 0
	for _, t := range p.things {
		if t.do != nil {
			n++
		}
	}
	return n
}

// made are AWS's error codes for things that exist already.
var made = map[string]bool{
	"InvalidGroup.Duplicate": true, "InvalidPermission.Duplicate": true,
	"EntityAlreadyExists": true, "QueueNameExists": true,
}

// carryOut does what is to be done. It stops at the first failure, because later things may need the one that
// failed. command is what an operator runs again to continue.
func (p *plan) carryOut(ctx context.Context, out io.Writer, command string) error {
	done, all := 0, p.work()
	for _, t := range p.things {
		if t.do == nil {
			continue
		}
		if err := t.do(ctx); err != nil {
			if made[awsconf.Code(err)] {
				return fmt.Errorf("%s %s was made meanwhile, by another setup: run %s again: %w", t.kind, t.name,
					command, err)
			}
			return fmt.Errorf("could not %s %s %s, after %d of %d things: %w\n"+
				"Put that right and run %s again: it goes on from there",
				t.verb, t.kind, t.name, done, all, err, command)
		}
		done++
		fmt.Fprintf(out, "%s %s %s\n", past[t.verb], t.kind, t.name)
	}
	return nil
}
