package processcloud_test

import (
	"os"
	"path/filepath"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/pool"
)

// TestLoginIsPrivate checks that an instance finds its own login in a file that only its user can read.
func TestLoginIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, "test", processcloud.Options{BinDir: bins, StateDir: dir})
	made, err := c.Launch(t.Context(), cloud.Spec{
		Token: "t", Count: 2, Image: "worker",
		Login: func(id pool.InstanceID) ([]byte, error) { return []byte("of " + id), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range made {
		file := filepath.Join(dir, "test", string(in.ID), "login")
		doc, err := os.ReadFile(file)
		if err != nil || string(doc) != "of "+string(in.ID) {
			t.Errorf("got login %q, error %v, want that of %s", doc, err, in.ID)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v, error %v, want mode 0600", info.Mode(), err)
		}
	}
	if got, want := processcloud.Kind().LoginFile, "$CLOUDMASTER_INSTANCE_DIR/login"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
