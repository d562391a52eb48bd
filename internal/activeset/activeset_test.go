package activeset_test

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// written is in a zone of its own: the document must not depend on the writer's.
var written = time.Date(2026, 11, 22, 11, 0, 5, 0, time.FixedZone("CET", 3600))

func sample() activeset.Set {
	return activeset.Set{
		Pool: "fib", Version: 42, WrittenAt: written,
		Instances: []activeset.Instance{
			{ID: "i-0def", Address: "10.0.0.8:20808", Load: 1.25, ReportedAt: written.Add(-1500 * time.Millisecond)},
			{ID: "i-0abc", Address: "10.0.0.7:20808", Load: 0.3, ReportedAt: written.Add(-time.Second)},
			{ID: "i-0new"},
		},
	}
}

func TestEncodeGolden(t *testing.T) {
	t.Parallel()
	cases := map[string]activeset.Set{
		"active-set.golden.json": sample(),
		"empty.golden.json":      {Pool: "fib", Version: 1, WrittenAt: written},
	}
	for file, set := range cases {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			got, err := activeset.Encode(set)
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, filepath.Join("testdata", file), got)
		})
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestEncodeLeavesTheSetAlone(t *testing.T) {
	t.Parallel()
	set := sample()
	if _, err := activeset.Encode(set); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), set); diff != "" {
		t.Errorf("Encode changed its argument (-want +got):\n%s", diff)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	data, err := activeset.Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	got, err := activeset.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	want.Instances[0], want.Instances[1] = want.Instances[1], want.Instances[0] // sorted by id
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after encode and decode (-want +got):\n%s", diff)
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	one := func(in ...activeset.Instance) activeset.Set {
		return activeset.Set{Pool: "fib", Version: 1, Instances: in}
	}
	cases := map[string]struct {
		set  activeset.Set
		want string
	}{
		"no pool":          {activeset.Set{Version: 1}, "pool is missing"},
		"negative version": {activeset.Set{Pool: "fib", Version: -1}, "version is -1"},
		"no id":            {one(activeset.Instance{}), "instance 0 has no id"},
		"doubled id": {
			one(activeset.Instance{ID: "a"}, activeset.Instance{ID: "a"}), "instance a is not in order",
		},
		"id not UTF-8":  {one(activeset.Instance{ID: "a\xff"}), "not UTF-8"},
		"load NaN":      {one(activeset.Instance{ID: "a", Load: math.NaN()}), "instance a has load NaN"},
		"load infinite": {one(activeset.Instance{ID: "a", Load: math.Inf(1)}), "instance a has load +Inf"},
		"load negative": {one(activeset.Instance{ID: "a", Load: -0.1}), "instance a has load -0.1"},
		"year 10000": {
			activeset.Set{Pool: "fib", WrittenAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "written_at is 10000",
		},
		"reported in -1": {
			one(activeset.Instance{ID: "a", ReportedAt: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}),
			"instance a has reported_at -0001",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := activeset.Encode(c.set)
			wantError(t, err, "encode active set: ", c.want)
			if data != nil {
				t.Errorf("got a document beside the error: %s", data)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ doc, want string }{
		"nothing":            {``, "unexpected end"},
		"not JSON":           {`hello`, "invalid character"},
		"null":               {`null`, "pool is missing"},
		"a list":             {`[]`, "cannot unmarshal"},
		"cut off":            {`{"pool":"fib","instances":[{"id":"a"`, "unexpected end"},
		"two documents":      {`{"pool":"fib","instances":[]}{"pool":"fib","instances":[]}`, "after top-level value"},
		"stray brace":        {`{"pool":"fib","instances":[]}}`, "after top-level value"},
		"no pool":            {`{"version":1,"instances":[]}`, "pool is missing"},
		"no list":            {`{"pool":"fib","version":1}`, "instances is missing"},
		"list is null":       {`{"pool":"fib","instances":null}`, "instances is missing"},
		"negative version":   {`{"pool":"fib","version":-3,"instances":[]}`, "version is -3"},
		"fractional version": {`{"pool":"fib","version":1.5,"instances":[]}`, "cannot unmarshal"},
		"no id":              {`{"pool":"fib","instances":[{"address":"h:1"}]}`, "instance 0 has no id"},
		"not sorted":         {`{"pool":"fib","instances":[{"id":"b"},{"id":"a"}]}`, "instance a is not in order"},
		"doubled":            {`{"pool":"fib","instances":[{"id":"a"},{"id":"a"}]}`, "instance a is not in order"},
		"load negative":      {`{"pool":"fib","instances":[{"id":"a","load_estimate":-1}]}`, "instance a has load -1"},
		"load too large":     {`{"pool":"fib","instances":[{"id":"a","load_estimate":1e999}]}`, "cannot unmarshal"},
		"before year 0": {
			`{"pool":"fib","written_at":"0000-01-01T00:00:00+01:00","instances":[]}`, "written_at is",
		},
		"time is no time": {`{"pool":"fib","written_at":"noon","instances":[]}`, "noon"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := activeset.Decode([]byte(c.doc))
			wantError(t, err, "decode active set: ", c.want)
			if diff := cmp.Diff(activeset.Set{}, set); diff != "" {
				t.Errorf("got a set beside the error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeSurvivesANewerWriter(t *testing.T) {
	t.Parallel()
	doc := ` {"schema":9,"pool":"fib","version":2,"instances":[{"id":"a","zone":"z","load_estimate":2}]} ` + "\n"
	got, err := activeset.Decode([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	want := activeset.Set{Pool: "fib", Version: 2, Instances: []activeset.Instance{{ID: "a", Load: 2}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	key := activeset.Key("fib")
	if want := "active-set/fib-instances"; key != want {
		t.Errorf("got key %q, want %q", key, want)
	}
	if err := blob.CheckKey(key); err != nil {
		t.Errorf("the key is not one that stores take: %v", err)
	}
}

// FuzzDecode: whatever Decode accepts can be written and read again unchanged.
func FuzzDecode(f *testing.F) {
	seed, err := activeset.Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"pool":"fib","instances":[]}`))
	f.Add([]byte(`{"pool":"fib","version":-1,"instances":[{"id":"\ud800","load_estimate":-0}]}`))
	f.Add([]byte(`{"pool":"f","written_at":"2026-11-22T10:00:00+23:59","instances":[]}`))
	f.Add([]byte(`{"pool":"f","instances":[{"id":"a","load_estimate":9}],"instances":[{"id":"b"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := activeset.Decode(data)
		if err != nil {
			return
		}
		written, err := activeset.Encode(first)
		if err != nil {
			t.Fatalf("decoded %q but cannot encode it: %v", data, err)
		}
		second, err := activeset.Decode(written)
		if err != nil {
			t.Fatalf("encoded %q but cannot decode it: %v", written, err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Fatalf("changed on the way (-first +second):\n%s", diff)
		}
	})
}

func wantError(t *testing.T, err error, prefix, part string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), prefix) || !strings.Contains(err.Error(), part) {
		t.Errorf("got error %v, want %q… with %q in it", err, prefix, part)
	}
}
