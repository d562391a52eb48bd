package awssetup_test

import (
	"strings"
	"testing"
)

// TestMachinesThatCannotBe: what no launch could make is found before setup makes anything.
func TestMachinesThatCannotBe(t *testing.T) {
	const unfit = "and cannot run on the instance types "
	for name, c := range map[string]struct {
		more   string            // keys of pool fib, whose image is f unless they name one
		images map[string]string // their architectures
		want   []string          // in the error; none if setup goes on
	}{
		"all fits":              {", instance_type: t3.small", map[string]string{"f": "x86_64"}, nil},
		"no image yet":          {", instance_types: [t3.small, c7g.large]", nil, nil},
		"no image of an id yet": {", instance_type: t3.small, image: ami-0123456789abcdef0", nil, nil},
		"an image of each":      {both, map[string]string{"f-amd64": "x86_64", "f-arm64": "arm64"}, nil},
		"a type that is not":    {", instance_type: t9.small", nil, []string{fibTypes + "t9.small: correct it"}},
		"some that are not": {
			", instance_types: [a1.big, t3.small, z9.x]", nil, []string{fibTypes + "a1.big, z9.x: "},
		},
		"an image of an arm": {
			"", map[string]string{"f": "arm64"}, []string{fibImage + "f is for arm64, " + unfit + "t3.micro (amd64): "},
		},
		"an id of an arm": {
			", image: ami-0123456789abcdef0", map[string]string{"ami-0123456789abcdef0": "arm64"}, []string{unfit},
		},
		"an image for some": {
			", instance_types: [c7a.large, c7g.large]",
			map[string]string{"f": "x86_64"},
			[]string{unfit + "c7g.large (arm64): "},
		},
		"an image under a wrong": {
			both,
			map[string]string{"f-amd64": "x86_64", "f-arm64": "x86_64"},
			[]string{fibImage + "f-arm64 is for amd64"},
		},
		"an image that does not say": {"", map[string]string{"f": ""}, nil}, // as those of LocalStack
		"another's architecture": {
			"", map[string]string{"f": "i386"}, []string{"f is for i386, " + unfit + "t3.micro"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.images = c.images
			cfg := f.config("d", region, c.more)
			_, err := f.setup(cfg)
			if (err != nil) != (len(c.want) > 0) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
			if roles, _ := f.names(); len(c.want) > 0 && len(roles) > 0 {
				t.Errorf("got roles %q, want nothing made", roles)
			}
			if got := f.called("DescribeInstanceTypes"); got != 1 {
				t.Errorf("got %d calls for the types of all pools, want 1", got)
			}
		})
	}
}

const (
	both     = `, instance_types: [c7a.large, c7g.large], image: "f-{arch}"`
	fibTypes = "pools.fib.instance_types: eu-west-1 has no instance type "
	fibImage = "pools.fib.image: "
)

// TestImagesOfParameters: a parameter that is not there yet is no error, one with an image of another architecture is.
func TestImagesOfParameters(t *testing.T) {
	const id = "ami-0123456789abcdef0"
	for name, c := range map[string]struct{ value, arch, want string }{
		"none yet":        {},
		"fits":            {value: id, arch: "x86_64"},
		"image is gone":   {value: id},
		"does not fit":    {value: id, arch: "arm64", want: fibImage + "ssm:/images/f is for arm64, and cannot run"},
		"holds something": {value: "latest", want: `image "ssm:/images/f": the SSM parameter holds`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			if c.value != "" {
				f.params["/images/f"] = c.value
			}
			if c.arch != "" {
				f.images[id] = c.arch
			}
			_, err := f.setup(f.config("d", region, `, image: "ssm:/images/f"`))
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestMachinesOfSeveralPools: all that is wrong is said at once.
func TestMachinesOfSeveralPools(t *testing.T) {
	f := newFake(t)
	f.images["p"] = "arm64"
	_, err := f.setup(f.config("d", region, ", instance_type: t9.small"))
	for _, want := range []string{fibTypes + "t9.small", "pools.primes.image: p is for arm64"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestMachinesThatMayNotBeSeen: rights of an earlier version's IAM policy lack the call.
func TestMachinesThatMayNotBeSeen(t *testing.T) {
	f := newFake(t)
	f.faults["DescribeInstanceTypes"] = []string{"UnauthorizedOperation"}
	_, err := f.setup(f.config("d", region, ""))
	if err == nil || !strings.Contains(err.Error(), "instance types") || !strings.Contains(err.Error(), "setup.json") {
		t.Errorf("got %v, want it to say what may not be seen, and which IAM policy lets it", err)
	}
}
