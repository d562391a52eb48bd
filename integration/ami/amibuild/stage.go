package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// machines maps architectures to their names in ELF.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Patterns for the parts of an AMI's name, which keep the whole name within EC2's limit of 128 characters.
var (
	imageWord   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)
	versionWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,59}$`)
)

// check checks the settings from the command line.
func (o options) check() error {
	_, known := machines[o.arch]
	switch {
	case !imageWord.MatchString(o.image):
		return fmt.Errorf("IMAGE is %q: name a directory under %s/images, such as make ami IMAGE=primes", o.image,
			o.recipe)
	case !known:
		return fmt.Errorf("ARCH is %q: use amd64 or arm64", o.arch)
	case !versionWord.MatchString(o.version):
		return fmt.Errorf("AMI_VERSION is %q: use letters, digits, dots and dashes, 60 at most", o.version)
	case o.stage == "":
		return errors.New("no --stage; make ami prepares it")
	}
	return nil
}

// checkStage checks that the program is there and runs on the architecture, and returns its name.
func checkStage(dir, arch string) (program string, err error) {
	program, err = programOf(dir)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, program)
	head := make([]byte, 2)
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("the image's program is missing: %w; build it for linux/%s", err, arch)
	}
	defer func() { _ = f.Close() }() // it was only read, so nothing can be lost
	if _, err := f.ReadAt(head, 0); err == nil && string(head) == "#!" {
		return program, nil // a script fits every architecture
	}
	binary, err := elf.NewFile(f)
	if err != nil {
		return "", fmt.Errorf("%s is not a program for Linux (%w); build it with GOOS=linux GOARCH=%s", file, err, arch)
	}
	if binary.Machine != machines[arch] {
		return "", fmt.Errorf("%s is built for %s, and ARCH is %s; build it with GOARCH=%s",
			file, binary.Machine, arch, arch)
	}
	return program, nil
}

// image is one directory under images/.
type image struct{ name, dir, program string }

func imagesOf(recipe string) ([]image, error) {
	files, err := filepath.Glob(filepath.Join(recipe, "images", "*", "image.env"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("%s has no images/*/image.env; name another --recipe", recipe)
	}
	var images []image
	for _, file := range files {
		dir := filepath.Dir(file)
		program, err := programOf(dir)
		if err != nil {
			return nil, err
		}
		images = append(images, image{name: filepath.Base(dir), dir: dir, program: program})
	}
	return images, nil
}

// programOf returns the value of PROGRAM in a directory's image.env.
func programOf(dir string) (string, error) {
	file := filepath.Join(dir, "image.env")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("no such image: %w; copy images/example to make one", err)
	}
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "PROGRAM=")
		if words := strings.Fields(value); ok && len(words) > 0 {
			return strings.Trim(words[0], `"'`), nil
		}
	}
	return "", fmt.Errorf("%s does not set PROGRAM, the file to run", file)
}
