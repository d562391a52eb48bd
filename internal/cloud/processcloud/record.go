package processcloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// The files of an instance's directory.
const (
	recordFile   = "instance.json"
	tagsFile     = "tags.json"
	userDataFile = "user-data.yaml"
	loginFile    = "login" // what the instance logs in with at its broker
	logFile      = "log"

	filePerm  = 0o640
	loginPerm = 0o600
	dirPerm   = 0o750
)

// errDamaged: the content of a file that we wrote is not what it must be.
var errDamaged = errors.New("damaged")

// record is instance.json: everything about an instance except its present tags. It is written
// before the instance's process exists, as an intent with PID 0, and again after that.
type record struct {
	ID         pool.InstanceID   `json:"id"`
	Deployment string            `json:"deployment"`
	Image      string            `json:"image"`
	Tags       map[string]string `json:"tags"` // as given at the launch
	Token      string            `json:"token"`
	Launched   time.Time         `json:"launched"`
	identity
	TerminatingSince time.Time `json:"terminating_since,omitzero"`
	Ended            time.Time `json:"ended,omitzero"` // when we noticed; may be missing though the process is dead
}

// instance returns the port's value for the record.
func (r *record) instance(host string, tags map[string]string, alive bool) cloud.Instance {
	phase := cloud.Running
	if !alive || !r.TerminatingSince.IsZero() {
		phase = cloud.Terminating
	}
	return cloud.Instance{ID: r.ID, Phase: phase, Image: r.Image, Address: host, Launched: r.Launched, Tags: tags}
}

// dir returns the directory of an instance.
func (c *Cloud) dir(id pool.InstanceID) string { return filepath.Join(c.root, string(id)) }

// read returns an instance's record. The error is fs.ErrNotExist if there is no such instance, and
// errDamaged if there is one whose record cannot be used.
func (c *Cloud) read(id pool.InstanceID) (record, error) {
	if !idForm.MatchString(string(id)) {
		return record{}, fmt.Errorf("instance %q: %w", id, fs.ErrNotExist)
	}
	var rec record
	err := readJSON(filepath.Join(c.dir(id), recordFile), &rec)
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(c.dir(id)); statErr == nil {
			// A directory appears with its record in it, so a missing record is damage.
			return record{}, fmt.Errorf("%w: %w", errDamaged, err)
		}
		return record{}, err
	}
	if err == nil && (rec.ID != id || rec.Deployment != c.deployment || rec.PID < 0) {
		err = fmt.Errorf("%w: it describes instance %q of deployment %q, pid %d",
			errDamaged, rec.ID, rec.Deployment, rec.PID)
	}
	return rec, err
}

func (c *Cloud) write(rec *record) error {
	return writeJSON(filepath.Join(c.dir(rec.ID), recordFile), rec)
}

// readTags returns an instance's present tags, or those of its launch if the present ones cannot be read.
func (c *Cloud) readTags(rec *record) map[string]string {
	tags := map[string]string{}
	if err := readJSON(filepath.Join(c.dir(rec.ID), tagsFile), &tags); err != nil || tags == nil {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.once(rec.ID, "tags are not readable, using those of the launch", err)
		}
		tags = maps.Clone(rec.Tags)
	}
	if tags == nil {
		tags = map[string]string{}
	}
	tags[cloud.TagDeployment] = c.deployment // whatever the file says
	return tags
}

// short reports whether err means that the machine lacks something at the moment, rather than that
// the file is bad.
func short(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EINTR)
}

func readJSON(path string, into any) error {
	doc, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), short(err):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err := json.Unmarshal(doc, into); err != nil {
		return fmt.Errorf("%w: %s: %w", errDamaged, path, err)
	}
	return nil
}

func writeJSON(path string, from any) error {
	doc, err := json.MarshalIndent(from, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writeFile(path, append(doc, '\n'))
}

// writeFile replaces a file in such a way that readers, and those who come after a crash, find
// either the old content or the new.
func writeFile(path string, doc []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(doc)
	err = errors.Join(err, f.Chmod(filePerm), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// syncDir makes sure that renames in a directory survive a crash of the machine.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
