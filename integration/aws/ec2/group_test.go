package ec2_test

import (
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/ec2"
)

// rules returns the sources and descriptions of what a group lets in.
func (w *world) rules(id string) string {
	w.t.Helper()
	req := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, "/",
		strings.NewReader("Action=DescribeSecurityGroups&GroupId.1="+id))
	rec := httptest.NewRecorder()
	w.fake.Serve(rec, req, call.Caller{Principal: call.Root(ec2.DefaultAccount), Region: where, Gate: w})
	var out struct {
		Perms []struct {
			Range  string `xml:"ipRanges>item>cidrIp"`
			Range6 string `xml:"ipv6Ranges>item>cidrIpv6"`
			Text   string `xml:"ipRanges>item>description"`
		} `xml:"securityGroupInfo>item>ipPermissions>item"`
	}
	if err := xml.Unmarshal(rec.Body.Bytes(), &out); err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, p := range out.Perms {
		all = append(all, strings.TrimSpace(p.Range+p.Range6+" "+p.Text))
	}
	return strings.Join(all, ", ")
}

func TestSecurityGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	create := []string{"GroupName=g", "GroupDescription=d", "VpcId=vpc-default"}
	w.want(w.do("CreateSecurityGroup", create...), "", 0)
	w.want(w.do("CreateSecurityGroup", create...), "InvalidGroup.Duplicate", 0)
	w.want(w.do("CreateSecurityGroup", "GroupName=g", "VpcId=vpc-x"), "InvalidVpcID.NotFound", 0)
	id := w.AddGroup("h", "vpc-default", nil)
	group := "GroupId=" + id
	port := func(more ...string) []string {
		return append(more, group, "IpPermissions.1.IpProtocol=tcp", "IpPermissions.1.FromPort=80",
			"IpPermissions.1.ToPort=80")
	}
	four, six := "IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8", "IpPermissions.1.Ipv6Ranges.1.CidrIpv6=::/0"
	w.want(w.do("AuthorizeSecurityGroupIngress", port(four)...), "", 0)
	w.want(w.do("AuthorizeSecurityGroupIngress", port(six, four)...), "InvalidPermission.Duplicate", 0)
	if got := w.rules(id); got != "10.0.0.0/8" {
		t.Errorf("got %q: a request with one rule that is there opens nothing", got)
	}
	w.want(w.do("AuthorizeSecurityGroupIngress", port(six)...), "", 0)
	w.want(w.do("UpdateSecurityGroupRuleDescriptionsIngress",
		port(four, "IpPermissions.1.IpRanges.1.Description=ours")...), "", 0)
	w.want(w.do("RevokeSecurityGroupIngress", port(six)...), "", 0)
	w.want(w.do("RevokeSecurityGroupIngress", port(six)...), "InvalidPermission.NotFound", 0)
	if got := w.rules(id); got != "10.0.0.0/8 ours" {
		t.Errorf("got %q, want the described rule", got)
	}
	user := w.mustRun("SecurityGroupId.1=" + id)[0]
	w.want(w.do("DeleteSecurityGroup", group), "DependencyViolation", 0)
	w.do("TerminateInstances", "InstanceId.1="+user)
	w.Tick()
	w.want(w.do("DeleteSecurityGroup", group), "", 0)
	w.want(w.do("DeleteSecurityGroup", group), "InvalidGroup.NotFound", 0)
}
