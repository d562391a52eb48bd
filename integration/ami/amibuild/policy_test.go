package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestBuildPolicyIsBound: what changes something is bound to Packer's tag or to the creation of the thing, but for what
// a build only uses and for names that Packer alone gives.
func TestBuildPolicyIsBound(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../deploy/ami/build-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Statement []struct {
			Sid       string
			Action    []string
			Resource  []string
			Condition map[string]map[string]any
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	unbound := map[string]bool{
		"Look": true, "LaunchWith": true, "LogIn": true, "OpenSSHInVPC": true, "MakeImage": true,
	}
	for _, s := range doc.Statement {
		tied := false
		for key := range s.Condition["StringEquals"] {
			tied = tied || strings.HasSuffix(key, "Tag/cloudmaster:made-by") || key == "ec2:CreateAction"
		}
		if tied == unbound[s.Sid] {
			t.Errorf("%s: got condition %v, want one on Packer's tag or the creation: %t", s.Sid, s.Condition,
				!unbound[s.Sid])
		}
		delete(unbound, s.Sid)
		for _, a := range s.Action {
			if destroys := strings.HasPrefix(a, "ec2:De") && !strings.HasPrefix(a, "ec2:Describe") ||
				strings.HasPrefix(a, "ec2:Terminate"); destroys && !tied && a != "ec2:DeleteKeyPair" {
				t.Errorf("%s: %s destroys what is not Packer's", s.Sid, a)
			}
		}
	}
	if len(unbound) > 0 {
		t.Errorf("there are no statements %v any more", unbound)
	}
}

// TestSSHIsForTheBuilder: Packer's own default lets in everybody.
func TestSSHIsForTheBuilder(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../deploy/ami/image.pkr.hcl")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"temporary_security_group_source_public_ip = length(var.ssh_cidrs) == 0",
		"temporary_security_group_source_cidrs     = var.ssh_cidrs",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the template has no line %q", want)
		}
	}
}
