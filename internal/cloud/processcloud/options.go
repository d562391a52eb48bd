package processcloud

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"cloudmaster/internal/pool"
)

// The defaults of Options.
const (
	DefaultBinDir   = "bin"
	DefaultStateDir = "var/instances"
	DefaultHost     = "127.0.0.1"
	DefaultGrace    = 30 * time.Second
	DefaultKeepDead = 20
)

// Options say where binaries and state are, and how instances are kept. The zero value works.
type Options struct {
	BinDir   string        // where the images' binaries are; default "bin"
	StateDir string        // where the instances' directories are; default "var/instances"
	Host     string        // the address of every instance; default 127.0.0.1
	Grace    time.Duration // from SIGTERM to SIGKILL; default 30s
	Capacity int           // most live instances of the deployment; 0 means no limit
	KeepDead int           // how many directories of dead instances are kept; 0 means 20, negative none
	Inherit  []string      // variables that each instance inherits from us besides PATH, LANG, TZ and TMPDIR
	Env      []string      // "KEY=value", added to the environment of each instance
	Log      *slog.Logger  // nil logs nothing

	// Exited is called once for every instance that this Cloud value knows and that ends while the
	// value is open, after the instance has left the list. It must not call Close.
	Exited func(pool.InstanceID)

	step func(name string) // for tests: called between two steps of a launch or termination
}

var deploymentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// withDefaults fills in what is not given, makes paths absolute, and refuses what cannot work. Its
// error names all problems.
func (o Options) withDefaults(deployment string) (Options, error) {
	var errs []error
	if !deploymentName.MatchString(deployment) {
		errs = append(errs, fmt.Errorf(
			"deployment %q: want 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit", deployment))
	}
	if o.Grace < 0 {
		errs = append(errs, fmt.Errorf("grace is %s, less than 0", o.Grace))
	}
	if o.Capacity < 0 {
		errs = append(errs, fmt.Errorf("capacity is %d, less than 0", o.Capacity))
	}
	for _, key := range o.Inherit {
		if !variable.MatchString(key) {
			errs = append(errs, fmt.Errorf("inherited variable %q: want a name such as HOME", key))
		}
	}
	for _, entry := range o.Env {
		if key, _, ok := strings.Cut(entry, "="); !ok || key == "" {
			errs = append(errs, fmt.Errorf("environment entry %q: want KEY=value", entry))
		}
	}
	var err error
	if o.BinDir, err = filepath.Abs(cmp.Or(o.BinDir, DefaultBinDir)); err != nil {
		errs = append(errs, fmt.Errorf("binary directory: %w", err))
	}
	if o.StateDir, err = filepath.Abs(cmp.Or(o.StateDir, DefaultStateDir)); err != nil {
		errs = append(errs, fmt.Errorf("state directory: %w", err))
	}
	o.Host = cmp.Or(o.Host, DefaultHost)
	o.Grace = cmp.Or(o.Grace, DefaultGrace)
	o.KeepDead = max(0, cmp.Or(o.KeepDead, DefaultKeepDead))
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Exited == nil {
		o.Exited = func(pool.InstanceID) {}
	}
	if o.step == nil {
		o.step = func(string) {}
	}
	return o, errors.Join(errs...)
}
