package imds

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// credentialLife is for how long credentials claim to be valid.
const credentialLife = 6 * time.Hour

// items are the leaves of a version's tree, by path. An item whose value is empty does not exist.
type items map[string]string

func tree(inst Instance, reclaim time.Time) items {
	t := items{
		"user-data":                             inst.UserData,
		"dynamic/instance-identity/document":    identity(inst),
		"meta-data/instance-id":                 inst.ID,
		"meta-data/ami-id":                      inst.Image,
		"meta-data/instance-type":               inst.Type,
		"meta-data/public-hostname":             inst.PublicHost,
		"meta-data/local-hostname":              inst.LocalHost,
		"meta-data/hostname":                    inst.LocalHost,
		"meta-data/local-ipv4":                  inst.LocalIPv4,
		"meta-data/placement/region":            inst.Region,
		"meta-data/placement/availability-zone": inst.Zone,
		"meta-data/mac":                         inst.MAC,
		"meta-data/spot/instance-action":        spotAction(reclaim),
		"meta-data/block-device-mapping/root":   "/dev/xvda",
		"meta-data/block-device-mapping/ami":    "/dev/xvda",
		"meta-data/services/domain":             "amazonaws.com",
		"meta-data/services/partition":          "aws",
	}
	if inst.Role != "" {
		t["meta-data/iam/security-credentials/"+inst.Role] = credentials(inst.Credentials)
	}
	if inst.MAC != "" {
		card := "meta-data/network/interfaces/macs/" + inst.MAC + "/"
		t[card+"mac"] = inst.MAC
		t[card+"device-number"] = "0"
		t[card+"local-ipv4s"] = inst.LocalIPv4
		t[card+"subnet-ipv4-cidr-block"] = inst.Subnet
	}
	return t
}

// get returns an item, or the names in a directory, where those of directories end with a /.
func (t items) get(path string) (string, bool) {
	if text := t[path]; text != "" {
		return text, true
	}
	dir := strings.TrimSuffix(path, "/")
	if dir != "" {
		dir += "/"
	}
	var names []string
	for item, text := range t {
		rest, inside := strings.CutPrefix(item, dir)
		if text == "" || !inside || rest == "" {
			continue
		}
		if name, _, deeper := strings.Cut(rest, "/"); deeper {
			rest = name + "/"
		}
		names = append(names, rest)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "\n"), len(names) > 0
}

func spotAction(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return document(map[string]string{"action": "terminate", "time": at.UTC().Format(time.RFC3339)})
}

func credentials(c Credentials) string {
	now := time.Now().UTC()
	return document(map[string]string{
		"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": now.Format(time.RFC3339),
		"AccessKeyId": c.AccessKeyID, "SecretAccessKey": c.SecretAccessKey, "Token": c.Token,
		"Expiration": now.Add(credentialLife).Format(time.RFC3339),
	})
}

func identity(inst Instance) string {
	return document(map[string]string{
		"instanceId": inst.ID, "imageId": inst.Image, "instanceType": inst.Type,
		"region": inst.Region, "availabilityZone": inst.Zone,
	})
}

// document encodes the fields as JSON.
func document(fields map[string]string) string {
	text, _ := json.Marshal(fields) // strings can always be encoded
	return string(text)
}
