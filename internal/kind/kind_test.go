package kind_test

import (
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/kind"
)

type base struct {
	Often time.Duration `key:"often" help:"how often"`
}

type settings struct {
	Count int      `key:"count" help:"how many"`
	Load  float64  `key:"load"  help:"how much"`
	Names []string `key:"names" help:"who"`
	base
	More   map[string]any `key:"more" help:"what else"`
	Late   string         `key:"late" default:"that of another" help:"found out later"`
	Hidden string
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := settings{Count: 3, Load: 0.25, base: base{Often: time.Hour}, Names: []string{"a"}}
	want := []kind.Key{
		{"count", "whole number", "3", "how many"},
		{"load", "number", "0.25", "how much"},
		{"names", "list of words", "a", "who"},
		{"often", "duration", "1h", "how often"},
		{"more", "mapping", "", "what else"},
		{"late", "text", "that of another", "found out later"},
	}
	if got := kind.Keys(&s); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.Late = "now"
	if got := kind.Keys(&s)[5].Default; got != "now" {
		t.Errorf("got %q, want the default that is set to go over its words", got)
	}
	if got := kind.Names(&s); !slices.Equal(got, []string{"count", "load", "names", "often", "more", "late"}) {
		t.Errorf("got %v, want the names in the order of the fields", got)
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	s := settings{Hidden: "x"}
	kind.Field(&s, "often").SetInt(int64(time.Minute))
	if s.Often != time.Minute {
		t.Errorf("got %s, want the field of the embedded struct set", s.Often)
	}
	for _, name := range []string{"", "hidden", "Hidden", "base", "nothing"} {
		if kind.Field(&s, name).IsValid() {
			t.Errorf("%q: got a field, want none", name)
		}
	}
}

// TestText: pointers and their addresses must not make equal settings differ.
func TestText(t *testing.T) {
	t.Parallel()
	text := func(names ...string) string {
		return kind.Text(&settings{Names: names, More: map[string]any{"b": 1, "a": []string{"x"}}})
	}
	if a, b := text("x", "y"), text("x", "y"); a != b {
		t.Errorf("got %q and %q, want the same for equal settings", a, b)
	}
	if a, b := text("x", "y"), text("x y"); a == b {
		t.Errorf("got %q for two words and for one", a)
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", time.Minute: "1m", time.Hour: "1h", 90 * time.Second: "1m30s", 61 * time.Minute: "1h1m",
		10 * time.Second: "10s",
	} {
		if got := kind.Keys(&base{Often: d})[0].Default; got != want {
			t.Errorf("%d: got %s, want %s", d, got, want)
		}
	}
}
