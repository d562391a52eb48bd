package ec2cloud

import (
	"encoding/json"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// made is what makes instances of a pool differ from others, beside image, type, zone and market. A field that is added
// must be left out while it has its default, or all instances would be outdated with the version that adds it.
type made struct {
	SecurityGroups  []string          `json:",omitempty"`
	InstanceProfile string            `json:",omitempty"`
	KeyName         string            `json:",omitempty"`
	Credits         string            `json:",omitempty"`
	PlacementGroup  string            `json:",omitempty"`
	IPv6            bool              `json:",omitempty"`
	Volume          Volume            `json:",omitzero"`
	Tags            map[string]string `json:",omitempty"`
}

// madeOf implements cloud.Kind's Made.
func madeOf(s kind.Settings, deployment string, name pool.Name, own kind.Settings) string {
	set, err := settings(s)
	if err != nil {
		return ""
	}
	l := set.Launch(deployment, "", name, own)
	text, err := json.Marshal(made{
		SecurityGroups: l.SecurityGroups, InstanceProfile: l.InstanceProfile, KeyName: l.KeyName, Credits: l.Credits,
		PlacementGroup: l.PlacementGroup, IPv6: l.IPv6, Volume: l.Volume, Tags: l.Tags,
	})
	if err != nil { // cannot be: they are texts, numbers and truths
		return ""
	}
	return string(text)
}
