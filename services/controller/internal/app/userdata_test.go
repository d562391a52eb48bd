package app

import (
	"testing"

	"cloudmaster/internal/agent"
	"cloudmaster/services/controller/internal/config"
)

// TestUserDataSayWhichAddressClientsReach: only where clients are sent to instances, and only if it is not the public
// address, which is what images without this key take.
func TestUserDataSayWhichAddressClientsReach(t *testing.T) {
	t.Parallel()
	cfg, err := config.Parse("c.yaml", []byte(`backend: aws://eu-west-1
clouds: {aws: {type: ec2}}
pools:
  jobs: {image: x, cloud: aws}
  inside: {policy: resource, image: x, cloud: aws, active_set_type: blob, service_port: 80}
  outside:
    {policy: resource, image: x, cloud: aws, active_set_type: blob, service_port: 80, client_cidrs: [192.0.2.0/24]}
`), Kinds())
	if err != nil {
		t.Fatal(err)
	}
	o := &opened{cfg: cfg, address: "aws://eu-west-1"}
	want := map[string]string{"jobs": "", "inside": "private", "outside": ""}
	for name, p := range cfg.Pools {
		doc, err := o.userData(&p, o.address)("")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := agent.DecodeUserData(doc); err != nil || got.Address != want[string(name)] {
			t.Errorf("%s: got address %q, %v, want %q", name, got.Address, err, want[string(name)])
		}
	}
}
