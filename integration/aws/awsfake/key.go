package awsfake

import (
	"fmt"
	"slices"
	"strings"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/ec2"
)

// InstanceKey returns an access key for what runs on an instance: a session of the role in its instance profile, named
// after the instance. Sources: IAM User Guide, "IAM identifiers"; EC2 User Guide, "IAM roles for Amazon EC2".
func (f *Fake) InstanceKey(region, id string) (string, error) {
	all := f.EC2(region).Instances()
	i := slices.IndexFunc(all, func(i ec2.Instance) bool { return i.ID == id })
	if i < 0 {
		return "", fmt.Errorf("there is no instance %s in %s", id, region)
	}
	role := all[i].Role
	if role == "" {
		return "", fmt.Errorf("instance %s has no instance profile, and so no credentials", id)
	}
	roleID := "AROA" + strings.ToUpper(role)
	if f.opts.RoleID != nil {
		roleID = f.opts.RoleID(role)
	}
	p := call.Session(f.opts.Account, role, roleID, id)
	p.Context = call.Context{}
	p.Context.Set("ec2:SourceInstanceARN",
		"arn:"+call.Partition+":ec2:"+region+":"+f.opts.Account+":instance/"+id)
	// Ids are counted in each region, so the region is a part of the key.
	key := "ASIA" + strings.ToUpper(strings.TrimPrefix(id, "i-")+strings.ReplaceAll(region, "-", ""))
	f.AddKey(key, p)
	return key, nil
}
