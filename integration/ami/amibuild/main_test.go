package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const recipe = "../../../deploy/ami"

// TestBuild: when everything is there, Packer builds the image that was asked for, from the base
// image that was found.
func TestBuild(t *testing.T) {
	p := setup(t)
	if err := p.build("--image", "primes", "--image-version", "1.0", "--revision", "abc"); err != nil {
		t.Fatal(err)
	}
	calls := p.calls(t)
	want := "build -only=amazon-ebs.image " +
		"-var region=eu-west-1 -var base_owner=136693071363 -var base_name=debian-12-amd64-* " +
		"-var image=primes -var program=primes-worker -var stage=" + p.stage +
		" -var arch=amd64 -var image_version=1.0 -var revision=abc " + recipe
	if len(calls) != 3 || calls[0] != "version" || calls[1] != "init "+recipe || calls[2] != want {
		t.Errorf("calls of packer: got\n%s\nwant version, init, and\n%s", strings.Join(calls, "\n"), want)
	}
	if !strings.Contains(p.out.String(), "cloudmaster-primes-1.0-amd64: building in eu-west-1") {
		t.Errorf("got %q, want it to say what is built", p.out.String())
	}
}

// TestCaughtBefore: if something is missing, one sentence says what, and nothing is launched.
func TestCaughtBefore(t *testing.T) {
	arm := []string{"--arch", "arm64"}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, p *place)
		args  []string
		want  string
	}{
		"no packer": {
			spoil: func(t *testing.T, p *place) { t.Setenv("PATH", t.TempDir()) },
			want: "Packer is not installed: install 1.10 or newer " +
				"(https://developer.hashicorp.com/packer/install), or build one with make packer-tool",
		},
		"an old packer": {
			spoil: func(t *testing.T, p *place) { p.packer(t, "1.6.6") },
			want:  "is Packer 1.6, too old: install 1.10 or newer",
		},
		"something else that is called packer": {
			spoil: func(t *testing.T, p *place) { p.packer(t, "none") },
			want:  "does not say its version",
		},
		"no credentials": {
			spoil: func(t *testing.T, p *place) { t.Setenv("AWS_ACCESS_KEY_ID", "") },
			want:  "no AWS credentials: set AWS_PROFILE or AWS_ACCESS_KEY_ID",
		},
		"no region": {
			spoil: func(t *testing.T, p *place) { t.Setenv("AWS_REGION", "") },
			want:  "no AWS region: set AWS_REGION",
		},
		"no rights": {
			spoil: func(t *testing.T, p *place) { p.denied = true },
			want:  "deploy/ami/build-policy.json grants the permissions that a build needs",
		},
		"a region without the base image": {
			spoil: func(t *testing.T, p *place) { delete(p.images, "debian-12-amd64-*") },
			want: "region eu-west-1 has no image debian-12-amd64-* of owner 136693071363 for x86_64; choose another " +
				"AWS_REGION",
		},
		"the name is taken": {
			spoil: func(t *testing.T, p *place) { p.images["cloudmaster-primes-1.0-amd64"] = "ami-taken" },
			want: "cloudmaster-primes-1.0-amd64 exists already, as ami-taken in eu-west-1; " +
				"deregister it, or set AMI_VERSION to another than 1.0",
		},
		"a program for another architecture": {
			args: arm,
			want: "is built for EM_X86_64, and ARCH is arm64; build it with GOARCH=arm64",
		},
		"a program for another system": {
			spoil: func(t *testing.T, p *place) { p.write(t, "primes-worker", "\xcf\xfa\xed\xfe") },
			want:  "is not a program for Linux",
		},
		"no program": {
			spoil: func(t *testing.T, p *place) { remove(t, filepath.Join(p.stage, "primes-worker")) },
			want:  "the image's program is missing",
		},
		"no such image": {
			spoil: func(t *testing.T, p *place) { remove(t, filepath.Join(p.stage, "image.env")) },
			want:  "copy images/example to make one",
		},
		"an image without a program": {
			spoil: func(t *testing.T, p *place) { p.write(t, "image.env", "DESCRIPTION=x\n") },
			want:  "does not set PROGRAM, the file to run",
		},
		"an image's name that is none": {
			args: []string{"--image", "../primes"}, want: `IMAGE is "../primes": name a directory under`,
		},
		"no image":                {args: []string{"--image", ""}, want: `IMAGE is ""`},
		"an unknown architecture": {args: []string{"--arch", "mips"}, want: `ARCH is "mips": use amd64 or arm64`},
		"a version that is no name": {
			args: []string{"--image-version", "1 0"},
			want: `AMI_VERSION is "1 0": use letters, digits, dots and dashes`,
		},
		"a version that is far too long": {
			args: []string{"--image-version", strings.Repeat("1", 128)}, want: "60 at most",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := setup(t)
			if c.spoil != nil {
				c.spoil(t, p)
			}
			err := p.build(append([]string{"--image", "primes", "--image-version", "1.0"}, c.args...)...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, c.want)
			}
			for _, call := range p.calls(t) {
				if call != "version" {
					t.Errorf("packer was called: %s", call)
				}
			}
		})
	}
}

// TestScriptsRunEverywhere: a program that is a script fits every architecture.
func TestScriptsRunEverywhere(t *testing.T) {
	for arch := range machines {
		program, err := checkStage(filepath.Join(recipe, "images", "example"), arch)
		if err != nil || program != "worker.sh" {
			t.Errorf("%s: got %q, %v, want worker.sh", arch, program, err)
		}
	}
}

// TestToolInsteadOfAnOldPacker: if the Packer on PATH is too old, the one that "make packer-tool"
// has built is used, with its plugins.
func TestToolInsteadOfAnOldPacker(t *testing.T) {
	p := setup(t)
	fakePacker(t, filepath.Join(p.tools, "packer"), "1.16.0", p.log)
	p.packer(t, "1.6.6")
	if err := p.build("--image", "primes", "--image-version", "1.0"); err != nil {
		t.Fatal(err)
	}
	calls := p.calls(t)
	if !strings.HasPrefix(calls[len(calls)-1], "build ") || strings.Contains(strings.Join(calls, " "), "init") {
		t.Errorf("calls of packer: got %q, want a build without init", calls)
	}
}

// TestValidateGoesThroughAll: validate checks each image for each architecture.
func TestValidateGoesThroughAll(t *testing.T) {
	p := setup(t)
	args := []string{"validate", "--recipe", recipe, "--tools", p.tools}
	if err := run(t.Context(), args, &p.out, &p.out); err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{"primes", "fib", "example"} {
		for arch := range machines {
			if want := image + " for " + arch + " is valid"; !strings.Contains(p.out.String(), want) {
				t.Errorf("got %s, want %s", p.out.String(), want)
			}
		}
	}
}

// place is an environment that has everything that a build needs.
type place struct {
	t                       *testing.T
	stage, tools, log, path string
	images                  map[string]string // image ids by the name under which they are looked up
	denied                  bool
	out                     bytes.Buffer
}

func setup(t *testing.T) *place {
	t.Helper()
	dir := t.TempDir()
	p := &place{
		t: t, stage: t.TempDir(), tools: t.TempDir(),
		log: filepath.Join(dir, "log"), path: filepath.Join(t.TempDir(), "packer"),
		images: map[string]string{"debian-12-amd64-*": "ami-base", "debian-12-arm64-*": "ami-arm"},
	}
	p.write(t, "image.env", "DESCRIPTION=x\nPROGRAM=primes-worker # as in a shell\n")
	p.write(t, "primes-worker", elfHead(62)) // EM_X86_64
	p.packer(t, "1.10.0")
	srv := httptest.NewServer(http.HandlerFunc(p.ec2))
	t.Cleanup(srv.Close)
	for name, value := range map[string]string{
		"PATH":             filepath.Dir(p.path) + ":/usr/bin:/bin",
		"AWS_ENDPOINT_URL": srv.URL, "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "",
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE":             filepath.Join(dir, "none"),
		"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "none"), "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	return p
}

// build runs amibuild build with the arguments.
func (p *place) build(args ...string) error {
	all := append([]string{"build", "--recipe", recipe, "--tools", p.tools, "--stage", p.stage}, args...)
	return run(p.t.Context(), all, &p.out, &p.out)
}

func (p *place) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.stage, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// packer puts a fake Packer of this version onto PATH.
func (p *place) packer(t *testing.T, version string) {
	t.Helper()
	fakePacker(t, p.path, version, p.log)
}

// fakePacker writes a program that logs the arguments of each call.
func fakePacker(t *testing.T, path, version, log string) {
	t.Helper()
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s\n[ \"$1\" != version ] || echo 'Packer v%s'\n", log, version)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}

// calls returns the arguments of each call of Packer.
func (p *place) calls(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// ec2 answers DescribeImages by the name that is looked up.
func (p *place) ec2(w http.ResponseWriter, r *http.Request) {
	if p.denied {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<Response><Errors><Error><Code>UnauthorizedOperation</Code>`+
			`<Message>no</Message></Error></Errors></Response>`)
		return
	}
	set := ""
	if id, ok := p.images[r.FormValue("Filter.1.Value.1")]; ok && r.FormValue("Action") == "DescribeImages" {
		set = "<item><imageId>" + id + "</imageId></item>"
	}
	fmt.Fprintf(w, `<DescribeImagesResponse><imagesSet>%s</imagesSet></DescribeImagesResponse>`, set)
}

// elfHead returns the header of an executable for Linux that has no sections.
func elfHead(machine byte) string {
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	head[16], head[18], head[20], head[52], head[54], head[58] = 2, machine, 1, 64, 56, 64
	return string(head)
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
