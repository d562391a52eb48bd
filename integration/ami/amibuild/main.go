// Command amibuild makes machine images with Packer, from deploy/ami. Before it starts anything
// that costs money, it checks that everything is there: Packer, the program, credentials and the
// base image, and that the image's name is free.
//
//	amibuild validate                 check the templates
//	amibuild build --image primes …   make an AMI
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"cloudmaster/internal/daemon"
)

func main() { os.Exit(daemon.Main("amibuild", run)) }

// options are the settings from the command line.
type options struct {
	recipe   string // deploy/ami
	tools    string // where "make packer-tool" has put a Packer
	image    string
	arch     string
	stage    string // the image's directory, with the program in it
	version  string
	revision string
	region   string
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := pflag.NewFlagSet("amibuild", pflag.ContinueOnError)
	fs.SetOutput(stdout)
	var o options
	fs.StringVar(&o.recipe, "recipe", "deploy/ami", "`directory` of the templates")
	fs.StringVar(&o.tools, "tools", "bin/tools", "`directory` of a packer for hosts that have none")
	fs.StringVar(&o.image, "image", "", "`name` of a directory under images/")
	fs.StringVar(&o.arch, "arch", "amd64", "amd64 or arm64")
	fs.StringVar(&o.stage, "stage", "", "`directory` that provision.sh gets, with the program in it")
	fs.StringVar(&o.version, "image-version", "", "part of the image's name; each build needs a new one")
	fs.StringVar(&o.revision, "revision", "", "the git revision from which the program is built")
	fs.StringVar(&o.region, "region", "", "where the AMI is made (default: the region of the AWS SDK's chain)")
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return daemon.ErrDone
	case err != nil:
		return daemon.Usagef("%v", err)
	}
	switch verb := fs.Arg(0); {
	case fs.NArg() != 1 || (verb != "build" && verb != "validate"):
		return daemon.Usagef("say build or validate, got %q", fs.Args())
	case verb == "validate":
		return validate(ctx, o, stdout, stderr)
	}
	return build(ctx, o, stdout, stderr)
}

// build makes an AMI. It launches nothing before all checks have passed.
func build(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	tool, err := findPacker(ctx, o.tools)
	if err != nil {
		return err
	}
	program, err := checkStage(o.stage, o.arch)
	if err != nil {
		return err
	}
	base := debian(o.arch)
	region, err := checkAccount(ctx, o, base)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: building in %s from %s\n", o.name(), region, base.name)
	if err := tool.init(ctx, o.recipe, stdout, stderr); err != nil {
		return err
	}
	args := append([]string{
		"build", "-only=amazon-ebs.image",
		"-var", "region=" + region, "-var", "base_owner=" + base.owner, "-var", "base_name=" + base.name,
	}, o.variables(program)...)
	return tool.run(ctx, stdout, stderr, append(args, o.recipe)...)
}

// validate checks the templates with each image and each architecture.
func validate(ctx context.Context, o options, stdout, stderr io.Writer) error {
	tool, err := findPacker(ctx, o.tools)
	if err != nil {
		return err
	}
	if err := tool.init(ctx, o.recipe, stdout, stderr); err != nil {
		return err
	}
	if err := tool.run(ctx, stdout, stderr, "fmt", "-check", "-diff", o.recipe); err != nil {
		return fmt.Errorf("the templates are not formatted; run packer fmt %s: %w", o.recipe, err)
	}
	images, err := imagesOf(o.recipe)
	if err != nil {
		return err
	}
	for _, image := range images {
		for _, arch := range []string{"amd64", "arm64"} {
			one := options{image: image.name, arch: arch, stage: image.dir, version: "0", revision: "0"}
			args := append([]string{"validate", "-var", "qemu_base_checksum=sha512:" + noSum},
				one.variables(image.program)...)
			if err := tool.run(ctx, io.Discard, stderr, append(args, o.recipe)...); err != nil {
				return fmt.Errorf("validate %s for %s: %w", image.name, arch, err)
			}
			fmt.Fprintf(stdout, "%s for %s is valid\n", image.name, arch)
		}
	}
	return nil
}

// noSum stands for the checksum of a base image, which validation does not download.
var noSum = strings.Repeat("0", 128)

// name returns the name that image.pkr.hcl gives the AMI.
func (o options) name() string { return "cloudmaster-" + o.image + "-" + o.version + "-" + o.arch }

// variables returns the arguments for those variables of the templates that have no default.
func (o options) variables(program string) []string {
	var args []string
	for _, v := range []string{
		"image=" + o.image, "program=" + program, "stage=" + o.stage, "arch=" + o.arch,
		"image_version=" + o.version, "revision=" + o.revision,
	} {
		args = append(args, "-var", v)
	}
	return args
}
