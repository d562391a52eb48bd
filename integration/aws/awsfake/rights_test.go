package awsfake_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"cloudmaster/integration/aws/awsfake"
	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/ec2"
	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/s3blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
)

// rights allow some actions to sessions of a role.
type rights struct {
	allowed []string

	mu    sync.Mutex
	asked []call.Principal // who has asked; guarded by mu
}

// Authorize implements call.Authorizer.
func (r *rights) Authorize(p call.Principal, c call.Call) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, p)
	if slices.Contains(r.allowed, c.Action) {
		return nil
	}
	return errors.New("because no identity-based policy allows the " + c.Action + " action")
}

// TestAuthorizer: the authorizer decides for sessions, and is not asked for root; the log has what it denied.
func TestAuthorizer(t *testing.T) {
	r := &rights{allowed: []string{"ec2:DescribeInstances", "s3:ListBucket"}}
	f := start(t, awsfake.Options{Authorizer: r})
	f.AddKey("controller", call.Session(f.Account(), "controller", "AROAEXAMPLE", "i-1"))
	admin, cfg := config(t, f, region, "admin"), config(t, f, region, "controller")
	if err := s3blob.Create(t.Context(), admin, "state", "demo"); err != nil {
		t.Fatal(err)
	}
	if len(r.asked) != 0 {
		t.Errorf("the authorizer was asked for %v", r.asked)
	}
	f.Reset()
	c, err := ec2cloud.Open(t.Context(), cfg, "demo", ec2cloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := c.Launch(t.Context(), spec("denied")); !errors.Is(err, cloud.ErrDenied) {
		t.Errorf("launch: got %v, want ErrDenied", err)
	}
	s, err := s3blob.Open(t.Context(), cfg, "state", s3blob.Options{Account: f.Account()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "k", []byte("v"), ""); !errors.Is(err, blob.ErrDenied) {
		t.Errorf("put: got %v, want ErrDenied", err)
	}
	var denied []string
	for _, e := range f.Denials() {
		denied = append(denied, e.Action)
	}
	if !slices.Equal(denied, []string{"ec2:RunInstances", "s3:PutObject"}) {
		t.Errorf("got denials %v, want those of the launch and the write", denied)
	}
	who := "arn:aws:sts::" + f.Account() + ":assumed-role/controller/i-1"
	if n := f.Counts()[awsfake.Count{Principal: who, Action: "ec2:DescribeInstances"}]; n != 1 {
		t.Errorf("got %d lists, want one", n)
	}
	if len(f.EC2(region).Instances()) != 0 || len(f.S3().Objects("state")) != 0 {
		t.Error("what was denied had an effect")
	}
}

func spec(token string) cloud.Spec {
	return cloud.Spec{Token: token, Count: 1, Image: image, Tags: map[string]string{cloud.TagPool: "main"}}
}

// TestRegions: regions share nothing but the account, its roles and the names of its buckets.
func TestRegions(t *testing.T) {
	f := start(t, awsfake.Options{})
	const other = "eu-central-1"
	f.EC2(other).AddImage(ec2.Image{ID: image})
	for _, in := range []string{region, other} {
		c, err := ec2cloud.Open(t.Context(), config(t, f, in, "admin"), "demo", ec2cloud.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Launch(t.Context(), spec("same")); err != nil {
			t.Fatal(err)
		}
		list, err := c.List(t.Context())
		if err != nil || len(list) != 1 {
			t.Errorf("%s: got %d instances and error %v, want one", in, len(list), err)
		}
	}
	account, err := awsconf.Account(t.Context(), config(t, f, other, "admin"), "")
	if err != nil || account != f.Account() {
		t.Errorf("got account %q and error %v, want %s", account, err, f.Account())
	}
}

// TestInstanceKey: what runs on an instance is a session of its role.
func TestInstanceKey(t *testing.T) {
	r := &rights{}
	f := start(t, awsfake.Options{Authorizer: r})
	admin := config(t, f, region, "admin")
	c, err := ec2cloud.Open(t.Context(), admin, "demo", ec2cloud.Options{
		Launch: ec2cloud.Launch{InstanceProfile: "worker"},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Launch(t.Context(), spec("one"))
	if err != nil {
		t.Fatal(err)
	}
	id := string(out[0].ID)
	key, err := f.InstanceKey(region, id)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ec2cloud.Open(t.Context(), config(t, f, region, key), "demo", ec2cloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(t.Context()); !errors.Is(err, cloud.ErrDenied) {
		t.Errorf("got %v, want ErrDenied: the role has no rights", err)
	}
	if len(r.asked) == 0 || r.asked[0].UserID != "AROAWORKER:"+id || r.asked[0].Role != "worker" {
		t.Errorf("got %+v, want a session of worker named %s", r.asked, id)
	}
	if _, err := f.InstanceKey(region, "i-0ffffffffffffffff"); err == nil {
		t.Error("an instance that does not exist has a key")
	}
}
