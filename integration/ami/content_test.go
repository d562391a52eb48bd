package ami

import (
	"bufio"
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mostAdded is how many bytes an image may add to its base.
const mostAdded = 40 << 20

// mostExposed is the highest exposure that systemd-analyze may report, on its scale from 0 to 10.
const mostExposed = 2.0

// TestAddsLittle: an image is its base with a program, its unit and two files of settings.
func TestAddsLittle(t *testing.T) {
	needImage(t)
	program := programOf(t)
	want := []string{
		"etc/cloud/cloud.cfg.d/95_cloudmaster.cfg", "etc/systemd/journald.conf.d/cloudmaster.conf",
		"etc/systemd/system/cloudmaster.service", "usr/lib/cloudmaster/" + program,
	}
	want = append(want, extras(t)...)
	slices.Sort(want)
	before, after := list(t, "base.list"), list(t, "image.list")
	var added []string
	total := int64(0)
	for name, size := range after {
		old, was := before[name]
		if !was {
			added = append(added, name)
		}
		total += max(0, size-old)
	}
	slices.Sort(added)
	if !slices.Equal(added, want) {
		t.Errorf("added: got %q, want %q", added, want)
	}
	t.Logf("the image adds %.1f MB to its base", float64(total)/1e6)
	if total > mostAdded {
		t.Errorf("the image adds %d bytes to its base, the most is %d", total, mostAdded)
	}
}

// extras returns the files that the user's own image copies to its root.
func extras(t *testing.T) []string {
	t.Helper()
	var names []string
	root := filepath.Join("../../deploy/ami/images", os.Getenv(imageVar), "root")
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, file)
		names = append(names, name)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return names
}

var exposure = regexp.MustCompile(`Overall exposure level for cloudmaster.service: ([0-9.]+)`)

// TestUnitIsConfined: systemd's own analysis finds the unit well confined.
func TestUnitIsConfined(t *testing.T) {
	needImage(t)
	report := read(t, filepath.Join(os.Getenv(dirVar), "security.txt"))
	m := exposure.FindStringSubmatch(report)
	if m == nil {
		t.Fatalf("systemd-analyze does not report the exposure:\n%s", report)
	}
	got, err := strconv.ParseFloat(m[1], 64)
	if err != nil || got > mostExposed {
		t.Errorf("exposure: got %s (%v), want %.1f at most:\n%s", m[1], err, mostExposed, report)
	}
	t.Logf("the unit's exposure is %s", m[1])
}

// TestNothingStays reads the disk: an image contains no secret, no identity, and nothing of its build.
func TestNothingStays(t *testing.T) {
	needImage(t)
	root := t.TempDir()
	dump := exec.Command("debugfs", "-R", "rdump / "+root, filepath.Join(os.Getenv(dirVar), "disk.img"))
	if out, err := dump.CombinedOutput(); err != nil {
		t.Fatalf("read the disk: %v: %s", err, out)
	}
	if id := read(t, filepath.Join(root, "etc/machine-id")); id != "" {
		t.Errorf("etc/machine-id: got %q, want it to be there and empty", id)
	}
	for l := range strings.Lines(read(t, filepath.Join(root, "etc/shadow"))) {
		if hash := strings.Split(l, ":")[1]; hash != "*" && !strings.HasPrefix(hash, "!") {
			t.Errorf("etc/shadow: there is a password: %s", l)
		}
	}
	program := read(t, filepath.Join(root, "usr/lib/cloudmaster", programOf(t)))
	if here, err := os.Getwd(); err != nil || strings.Contains(program, filepath.Dir(here)) {
		t.Errorf("the program contains the directory in which it was built: %s (%v)", here, err)
	}
	files := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		lookAt(t, file, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 1000 {
		t.Errorf("the disk has %d files, too few to be Debian", files)
	}
}

// unwanted are the names of files that no image may have.
var unwanted = []string{
	"etc/ssh/ssh_host_*", "etc/hostname", "etc/netplan/50-cloud-init.yaml", "etc/systemd/network/10-cloud-init-*",
	"etc/sudoers.d/90-cloud-init-users", "var/lib/dbus/machine-id",
	"var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
	"var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/cache/debconf/*-old", "var/lib/dpkg/*-old",
	"root/.*_history", "home/*/.*_history", "var/lib/dhcp/*.leases",
}

// empty are directories that must not contain files.
var empty = []string{
	"tmp/", "var/tmp/", "var/log/", "var/lib/apt/lists/", "var/lib/cloud/", "root/.ssh/", "root/.cache/",
	"root/go/", "home/",
}

// settled are the directories in which secrets would be, if there were any: the recipe and logins
// write to them.
var settled = []string{"etc/", "root/", "home/", "opt/", "srv/", "var/lib/", "usr/local/"}

var secret = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|(?i)aws_secret_access_key\s*=`)

func lookAt(t *testing.T, file, name string) {
	t.Helper()
	for _, pattern := range unwanted {
		if match, err := path.Match(pattern, name); err != nil || match {
			t.Errorf("the image has %s (%v)", name, err)
		}
	}
	inside := func(dir string) bool { return strings.HasPrefix(name, dir) }
	if slices.ContainsFunc(empty, inside) {
		t.Errorf("the image has %s", name)
	}
	if !slices.ContainsFunc(settled, inside) {
		return
	}
	if m := secret.FindString(read(t, file)); m != "" {
		t.Errorf("%s contains what looks like a secret: %.30s", name, m)
	}
}

// programOf returns the name of the image's program.
func programOf(t *testing.T) string {
	t.Helper()
	for l := range strings.Lines(read(t, filepath.Join("../../deploy/ami/images", os.Getenv(imageVar), "image.env"))) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(l), "PROGRAM="); ok {
			return strings.Fields(name)[0]
		}
	}
	t.Fatal("the image has no program")
	return ""
}

// list returns the sizes of files by name, from a list that disk.sh has written.
func list(t *testing.T, name string) map[string]int64 {
	t.Helper()
	files := make(map[string]int64)
	lines := bufio.NewScanner(bytes.NewReader([]byte(read(t, filepath.Join(os.Getenv(dirVar), name)))))
	for lines.Scan() {
		size, file, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		files[file] = n
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
