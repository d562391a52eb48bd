package daemon_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"cloudmaster/internal/daemon"
)

// values has one flag of each type.
type values struct {
	Listen     string
	MaxClients int
	Fast       bool
	IdleTime   time.Duration
	Ratio      float64
	Pools      []string
	Ports      []int
}

func flagSet(v *values) *pflag.FlagSet {
	fs := pflag.NewFlagSet("fib-server", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&v.Listen, "listen", ":1", "")
	fs.IntVar(&v.MaxClients, "max-clients", 1, "")
	fs.BoolVar(&v.Fast, "fast", false, "")
	fs.DurationVar(&v.IdleTime, "idle-time", time.Second, "")
	fs.Float64Var(&v.Ratio, "ratio", 0.1, "")
	fs.StringSliceVar(&v.Pools, "pools", []string{"one"}, "")
	fs.IntSliceVar(&v.Ports, "ports", []int{1}, "")
	return fs
}

// layers has the value that each source gives to the settings.
type layers struct {
	args  []string
	env   map[string]string
	file  string
	under map[string]any
}

func (l layers) parse(t *testing.T) (values, error) {
	t.Helper()
	for name, text := range l.env {
		t.Setenv("CLOUDMASTER_"+name, text)
	}
	args := l.args
	if l.file != "" {
		args = append([]string{"--config", writeFile(t, l.file)}, args...)
	}
	var v values
	err := daemon.Parse(flagSet(&v), args, l.under)
	return v, err
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fib.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// all has a value for every setting in every source; without takes sources away.
func all() layers {
	return layers{
		args: []string{
			"--listen=:5", "--max-clients=5", "--fast=true", "--idle-time=5s", "--ratio=0.5", "--pools=a5,b5",
			"--ports=5,55",
		},
		env: map[string]string{
			"LISTEN": ":4", "MAX_CLIENTS": "4", "FAST": "false", "IDLE_TIME": "4s", "RATIO": "0.4", "POOLS": "a4, b4",
			"PORTS": "4,44",
		},
		file: "listen: :3\nmax_clients: 3\nfast: true\nidle_time: 3s\nratio: 0.3\npools: [a3, b3]\nports:\n  - 3\n" +
			"  - 33\n",
		under: map[string]any{
			"listen": ":2", "max_clients": 2, "fast": false, "idle_time": "2s", "ratio": 0.2,
			"pools": []any{"a2", "b2"},
			"ports": []any{2, 22},
		},
	}
}

func TestParsePrecedence(t *testing.T) {
	without := func(drop ...func(*layers)) layers {
		l := all()
		for _, f := range drop {
			f(&l)
		}
		return l
	}
	args, env := func(l *layers) { l.args = nil }, func(l *layers) { l.env = nil }
	file, under := func(l *layers) { l.file = "" }, func(l *layers) { l.under = nil }
	cases := map[string]struct {
		layers layers
		want   values
	}{
		"command line": {all(), values{":5", 5, true, 5 * time.Second, 0.5, []string{"a5", "b5"}, []int{5, 55}}},
		"environment": {
			without(args), values{":4", 4, false, 4 * time.Second, 0.4, []string{"a4", "b4"}, []int{4, 44}},
		},
		"file": {
			without(args, env), values{":3", 3, true, 3 * time.Second, 0.3, []string{"a3", "b3"}, []int{3, 33}},
		},
		"user data": {
			without(args, env, file), values{":2", 2, false, 2 * time.Second, 0.2, []string{"a2", "b2"}, []int{2, 22}},
		},
		"default": {layers{}, values{":1", 1, false, time.Second, 0.1, []string{"one"}, []int{1}}},
		"flag over file": {
			without(env, under), values{":5", 5, true, 5 * time.Second, 0.5, []string{"a5", "b5"}, []int{5, 55}},
		},
		"flag over user data": {
			without(env, file), values{":5", 5, true, 5 * time.Second, 0.5, []string{"a5", "b5"}, []int{5, 55}},
		},
		"environment over users": {
			without(args, file), values{":4", 4, false, 4 * time.Second, 0.4, []string{"a4", "b4"}, []int{4, 44}},
		},
		"environment alone": {
			without(args, file, under),
			values{":4", 4, false, 4 * time.Second, 0.4, []string{"a4", "b4"}, []int{4, 44}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := c.layers.parse(t)
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Errorf("got error %v and (-want +got):\n%s", err, diff)
			}
		})
	}
}

// A flag that is given with its default, or with zero, still takes precedence.
func TestParseZeroValuesCount(t *testing.T) {
	l := layers{
		args:  []string{"--listen=", "--max-clients=0"},
		env:   map[string]string{"FAST": "false", "IDLE_TIME": "0", "LISTEN": ":9", "MAX_CLIENTS": "9"},
		file:  "fast: true\nidle_time: 9s\nratio: 0\npools: []\n",
		under: map[string]any{"ratio": 9, "pools": []any{"x"}, "ports": []any{}},
	}
	got, err := l.parse(t)
	var want values
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("got error %v and (-want +got):\n%s", err, diff)
	}
}

func TestParseLayersMix(t *testing.T) {
	l := layers{
		args:  []string{"--listen=:5"},
		env:   map[string]string{"MAX_CLIENTS": "4", "RATIO": ""}, // empty is unset
		file:  "idle_time: 3s\nratio: 0.3\n",
		under: map[string]any{"fast": true, "pools": "x, y", "ports": []any{7}},
	}
	got, err := l.parse(t)
	want := values{":5", 4, true, 3 * time.Second, 0.3, []string{"x", "y"}, []int{7}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("got error %v and (-want +got):\n%s", err, diff)
	}
}

// Text is taken as it is written, also where YAML would take it for a number.
func TestParseFileKeepsText(t *testing.T) {
	cases := map[string]struct{ file, want string }{
		"version":      {"listen: 1.10", "1.10"},
		"octal":        {"listen: 0123", "0123"},
		"date":         {"listen: 2026-11-22", "2026-11-22"},
		"yes":          {"listen: yes", "yes"},
		"quoted":       {`listen: "a b"`, "a b"},
		"alias":        {"pools: &p [x]\nlisten: &a :7\nratio: 0.1", ":7"},
		"dashes":       {"# comment\n---\nlisten: :7\n", ":7"},
		"only comment": {"# nothing\n", ":1"},
		"nothing":      {"\n", ":1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := layers{file: c.file}.parse(t)
			if err != nil || got.Listen != c.want {
				t.Errorf("got %q, %v, want %q", got.Listen, err, c.want)
			}
		})
	}
}

func TestParseConfigFromTheEnvironment(t *testing.T) {
	file := writeFile(t, "max_clients: 3\n")
	got, err := layers{env: map[string]string{"CONFIG": file}}.parse(t)
	if err != nil || got.MaxClients != 3 {
		t.Errorf("got %d, %v, want 3", got.MaxClients, err)
	}
	other := layers{env: map[string]string{"CONFIG": "/does/not/exist"}, file: "max_clients: 4\n"}
	if got, err := other.parse(t); err != nil || got.MaxClients != 4 {
		t.Errorf("the flag's file: got %d, %v, want 4", got.MaxClients, err)
	}
}

func TestParseRefuses(t *testing.T) {
	cases := map[string]struct {
		layers layers
		want   []string
	}{
		"unknown flag": {layers{args: []string{"--max-guests=5"}}, []string{"unknown flag: --max-guests"}},
		"bad flag": {
			layers{args: []string{"--max-clients=x"}}, []string{`invalid argument "x" for "--max-clients"`},
		},
		"unknown keys in file": {
			layers{file: "colour: red\nlisten: :3\nshape:\n"},
			[]string{"fib.yaml:1: colour is not a setting of fib-server", "fib.yaml:3: shape is not"},
		},
		"unknown keys in data": {
			layers{under: map[string]any{"a": 1, "b": nil}},
			[]string{"user data: a is not a setting of fib-server", "user data: b is not"},
		},
		"bad values everywhere": {
			layers{
				env: map[string]string{"MAX_CLIENTS": "x"}, file: "idle_time: 5\n",
				under: map[string]any{"ratio": "high"},
			},
			[]string{
				`CLOUDMASTER_MAX_CLIENTS: invalid value "x"`,
				`fib.yaml:1: idle_time: invalid value "5": time: missing unit`,
				`user data: ratio: invalid value "high"`,
			},
		},
		"bad and unknown at once": {
			layers{file: "colour: red\nfast: perhaps\n"},
			[]string{"fib.yaml:1: colour", `fib.yaml:2: fast: invalid value "perhaps"`},
		},
		"no value": {
			layers{file: "max_clients:\n", under: map[string]any{"ratio": nil}},
			[]string{"fib.yaml:1: max_clients has no value", "user data: ratio has no value"},
		},
		"a list for one value": {
			layers{file: "listen: [a]\n", under: map[string]any{"max_clients": []any{1}}},
			[]string{"fib.yaml:1: listen: is a list", "user data: max_clients: is a list"},
		},
		"a mapping for one value": {
			layers{file: "listen: {a: b}\n", under: map[string]any{"ratio": map[string]any{}}},
			[]string{"fib.yaml:1: listen: is a mapping", "user data: ratio: is a mapping"},
		},
		"a mapping for a list": {
			layers{file: "pools: {a: b}\nports: [{a: b}]\n"},
			[]string{"fib.yaml:1: pools: is a mapping", "fib.yaml:2: ports: is a mapping"},
		},
		"a list without a value": {
			layers{file: "pools: [a, ~]\n"}, []string{"fib.yaml:1: pools: an item has no value"},
		},
		"a list of bad values": {
			layers{file: "ports: [1, x]\n"}, []string{`fib.yaml:1: ports: invalid list ["1" "x"]`},
		},
		"a list within itself": {layers{file: "pools: &p [*p]\n"}, []string{"fib.yaml:1: pools: is a mapping"}},
		"key twice": {
			layers{file: "listen: a\nratio: 1\nlisten: b\n"}, []string{"fib.yaml:3: listen is already set in line 1"},
		},
		"config in the file": {
			layers{file: "config: x\nversion: true\n"},
			[]string{"fib.yaml:1: config is not a setting", "fib.yaml:2: version is not a setting"},
		},
		"not YAML":      {layers{file: "a: b: c\n"}, []string{"read settings: ", "fib.yaml: yaml: "}},
		"not a mapping": {layers{file: "- a\n"}, []string{"fib.yaml:1: not a mapping of settings to values"}},
		"no file": {
			layers{args: []string{"--config", "/does/not/exist"}},
			[]string{"read settings: open /does/not/exist: no such file"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := c.layers.parse(t)
			for _, want := range c.want {
				wantError(t, err, want)
			}
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
}

func TestParseKeepsWhyAFileCannotBeRead(t *testing.T) {
	_, err := layers{args: []string{"--config", "/does/not/exist"}}.parse(t)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want it to wrap os.ErrNotExist", err)
	}
}

func TestParseLeavesArguments(t *testing.T) {
	t.Parallel()
	fs := flagSet(new(values))
	if err := daemon.Parse(fs, []string{"--fast", "12", "x"}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"12", "x"}, fs.Args()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseHelpAndVersion(t *testing.T) {
	t.Setenv("CLOUDMASTER_VERSION", "true") // is not used: every program would only print its version
	cases := map[string]struct {
		arg  string
		want []string
	}{
		"help": {
			"--help", []string{
				"Usage of fib-server:", "--max-clients int", "--config FILE", "--log-level string",
				"--version",
			},
		},
		"h":       {"-h", []string{"Usage of fib-server:"}},
		"version": {"--version", []string{"fib-server " + daemon.Version() + "\n"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			fs := flagSet(new(values))
			fs.SetOutput(&out)
			// Help is printed whatever else is wrong.
			err := daemon.Parse(fs, []string{c.arg}, map[string]any{"colour": "red"})
			if !errors.Is(err, daemon.ErrDone) {
				t.Errorf("got %v, want ErrDone", err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got output %q, want %q in it", out.String(), want)
				}
			}
		})
	}
	if _, err := (layers{}).parse(t); err != nil {
		t.Errorf("without --version: got %v, want nil", err)
	}
}
