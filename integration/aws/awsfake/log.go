package awsfake

import (
	"slices"

	"cloudmaster/integration/aws/call"
)

// Entry is an action that a request needed. A request has an entry for each of its actions: a RunInstances with tags
// has ec2:RunInstances and ec2:CreateTags.
type Entry struct {
	Request   string // its id
	Principal call.Principal
	Region    string
	Action    string   // ec2:RunInstances
	Resources []string // ARNs that were asked for; none if the action needs no permission
	Denied    string   // why the action is not allowed; empty if it is
}

// gate asks the authorizer, and writes the log.
type gate struct{ fake *Fake }

// Pass implements call.Gate.
func (g gate) Pass(caller *call.Caller, c call.Call) error {
	var why error
	if g.fake.opts.Authorizer != nil && !caller.Principal.IsRoot() {
		why = g.fake.opts.Authorizer.Authorize(caller.Principal, c)
	}
	g.fake.note(caller, c.Action, c.Resources, why)
	return why
}

// Note implements call.Gate.
func (g gate) Note(caller *call.Caller, action string) { g.fake.note(caller, action, nil, nil) }

func (f *Fake) note(caller *call.Caller, action string, resources []string, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [2]string{caller.RequestID, action}
	i, known := f.entries[key]
	if !known {
		i = len(f.log)
		f.entries[key] = i
		f.log = append(f.log, Entry{
			Request: caller.RequestID, Principal: caller.Principal, Region: caller.Region, Action: action,
		})
	}
	f.log[i].Resources = append(f.log[i].Resources, resources...)
	if why != nil {
		f.log[i].Denied = why.Error()
	}
}

// Log returns all actions since the beginning, or the last Reset, in order.
func (f *Fake) Log() []Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

// Reset empties the log.
func (f *Fake) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = nil
	clear(f.entries)
}

// Count is whose calls of what are counted.
type Count struct {
	Principal string // ARN
	Action    string
}

// Counts returns how many requests needed each action, by principal.
func (f *Fake) Counts() map[Count]int {
	out := make(map[Count]int)
	for _, e := range f.Log() {
		out[Count{Principal: e.Principal.ARN, Action: e.Action}]++
	}
	return out
}

// Denials returns the actions that were not allowed.
func (f *Fake) Denials() []Entry {
	return slices.DeleteFunc(f.Log(), func(e Entry) bool { return e.Denied == "" })
}
