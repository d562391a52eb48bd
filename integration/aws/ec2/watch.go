package ec2

import "maps"

// Event says that an instance has entered a state.
type Event struct {
	Region   string
	Instance Instance
}

// Watch calls f for each state that an instance enters, one after the other and without a lock, during the call or
// the method that made or noticed the change. Changes that only take time are noticed by the next call, or by Tick.
func (f *Fake) Watch(do func(Event)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers = append(f.watchers, do)
}

func (f *Fake) tell(events []Event) {
	if len(events) == 0 {
		return
	}
	f.mu.Lock()
	watchers := f.watchers[:len(f.watchers):len(f.watchers)]
	f.mu.Unlock()
	for _, e := range events {
		for _, do := range watchers {
			do(e)
		}
	}
}

// happened notes that an instance has entered a state.
func (r *Region) happened(i *instance) {
	r.events = append(r.events, Event{Region: r.name, Instance: i.copy()})
}

// copy returns the instance as tests see it.
func (i *instance) copy() Instance {
	out := i.Instance
	out.Tags = maps.Clone(i.Tags)
	out.Groups = append([]string(nil), i.Groups...)
	return out
}
