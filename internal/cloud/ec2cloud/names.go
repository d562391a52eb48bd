package ec2cloud

import (
	"crypto/sha256"
	"encoding/hex"

	"cloudmaster/internal/pool"
)

// Owned is the name of the security group that setup makes for a pool alone.
func Owned(deployment string, name pool.Name) string {
	if deployment == "" {
		return "cloudmaster-" + string(name)
	}
	return "cloudmaster-" + deployment + "-" + string(name)
}

const (
	// maxRole is the longest name of a role. Instance profiles may have 128 characters, but theirs is the same name.
	// Source: IAM User Guide, "IAM and AWS STS quotas".
	maxRole = 64
	// cut is the length of what is kept of a longer name. Nine characters that tell such names apart follow.
	cut = maxRole - 9
)

// OwnedRole is the name of the role and of the instance profile that setup makes for a pool alone. IAM is one for all
// regions of an account, so the name has the region in it. A name that is too long for IAM ends with part of its hash.
func OwnedRole(deployment, region string, name pool.Name) string {
	full := Owned(deployment, pool.Name(region)) + "-" + string(name)
	if len(full) <= maxRole {
		return full
	}
	sum := sha256.Sum256([]byte(full))
	return full[:cut] + "-" + hex.EncodeToString(sum[:])[:maxRole-cut-1]
}

// OwnedRoles is how the names of all such roles begin that belong to a deployment in a region; in all regions, and
// with the names that earlier versions gave, if the region is empty.
func OwnedRoles(deployment, region string) string {
	begin := Owned(deployment, pool.Name(region))
	if region != "" {
		begin += "-"
	}
	return begin[:min(len(begin), cut)]
}
