package ec2

import (
	"slices"
	"time"
)

// The states of instances.
const (
	pending      = "pending"
	running      = "running"
	shuttingDown = "shutting-down"
	terminated   = "terminated"
	stopping     = "stopping"
	stopped      = "stopped"
)

// stateCodes are the numbers of the states. Source: EC2 API Reference, InstanceState.
var stateCodes = map[string]int{
	pending: 0, running: 16, shuttingDown: 32, terminated: 48, stopping: 64, stopped: 80,
}

// StateReason says why an instance changed its state. Source of the codes: EC2 API Reference, StateReason.
type StateReason struct{ Code, Message string }

// Reasons why instances end.
var (
	UserInitiatedShutdown = StateReason{
		Code: "Client.UserInitiatedShutdown", Message: "Client.UserInitiatedShutdown: User initiated shutdown",
	}
	InstanceInitiatedShutdown = StateReason{
		Code:    "Client.InstanceInitiatedShutdown",
		Message: "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
	}
	SpotInstanceTermination = StateReason{
		Code: "Server.SpotInstanceTermination", Message: "Server.SpotInstanceTermination: Spot instance termination",
	}
	// KeyDenied is what an instance ends with whose volume is encrypted with a key that may not be used.
	KeyDenied = StateReason{
		Code: "Client.InternalError", Message: "Client.InternalError: Client error on launch",
	}
	InvalidSnapshot = StateReason{
		Code:    "Client.InvalidSnapshot.NotFound",
		Message: "Client.InvalidSnapshot.NotFound: The specified snapshot was not found",
	}
	VolumeLimitExceeded = StateReason{
		Code: "Client.VolumeLimitExceeded", Message: "Client.VolumeLimitExceeded: Volume limit exceeded",
	}
	ServerInternalError = StateReason{
		Code: "Server.InternalError", Message: "Server.InternalError: Internal error on launch",
	}
)

// Instance is what tests see of an instance.
type Instance struct {
	ID, State, Image, Type, Subnet, Zone string
	Region                               string
	Spot                                 bool
	UserData                             string // as it was given: in base64
	Profile                              string // the name of the instance profile
	Role                                 string // of the profile
	PrivateIP, PublicIP                  string
	Groups                               []string // ids
	Tags                                 map[string]string
	Reason                               StateReason // why it ended or stopped
	HTTPTokens                           string      // required: IMDSv2 only
	Credits                              string      // of burstable types: standard or unlimited
	ShutdownBehavior                     string
	Launched                             time.Time
}

// instance is an instance with what is going to happen to it.
type instance struct {
	Instance

	account     string
	reservation string
	token       string
	vpc         string
	key         string
	volume      string // id of the root volume
	volumeTags  map[string]string
	spotRequest string

	then     string      // the next state; empty: none
	at       time.Time   // when that begins
	doom     StateReason // why it ends instead of running; zero: it does not
	listed   time.Time   // when DescribeInstances begins to show it
	known    time.Time   // when other calls begin to know it
	hidden   time.Time   // until when all calls lack it once more
	ended    time.Time   // when it was terminated
	impaired bool        // its status checks fail
	events   []Scheduled // what EC2 has scheduled for it
}

// alive reports whether the instance takes room.
func (i *instance) alive() bool { return i.State == pending || i.State == running }

// become changes the state now, and plans the one that follows.
func (i *instance) become(state, then string, at time.Time) {
	i.State, i.then, i.at = state, then, at
}

// advance lets everything happen that is due, and forgets instances that ended long ago.
func (r *Region) advance(now time.Time) {
	for _, i := range r.instances {
		for i.then != "" && !now.Before(i.at) {
			r.enter(i)
		}
	}
	r.room.expire(now)
	remember := r.times.Remember
	if remember == 0 {
		remember = time.Hour
	}
	r.instances = slices.DeleteFunc(r.instances, func(i *instance) bool {
		return i.State == terminated && now.Sub(i.ended) > remember
	})
}

// enter makes an instance enter the state that it is due for.
func (r *Region) enter(i *instance) {
	i.State, i.then = i.then, ""
	switch {
	case i.State == running && i.doom != StateReason{}:
		i.Reason = i.doom
		i.become(shuttingDown, terminated, i.at.Add(r.times.End))
	case i.State == terminated:
		i.ended = i.at
		i.PrivateIP, i.PublicIP = "", ""
	case i.State == stopped:
		i.PublicIP = ""
	}
	r.happened(i)
}

// seen reports whether DescribeInstances shows the instance.
func (i *instance) seen(now time.Time) bool { return !now.Before(i.listed) && !now.Before(i.hidden) }

// isKnown reports whether calls that change instances know this one.
func (i *instance) isKnown(now time.Time) bool { return !now.Before(i.known) && !now.Before(i.hidden) }
