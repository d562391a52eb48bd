package loop_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
)

var update = flag.Bool("update", false, "write what controllers do into the files in testdata/traces")

// TestTraces plays the stories in testdata/traces. A line that begins with # is for the reader, one that begins with >
// makes something happen, and what is indented is what the controller does then: that must be as it is in the file.
func TestTraces(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/traces/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v and error %v, want the files of the traces", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			synctest.Test(t, func(t *testing.T) { got = play(t, string(want)) })
			if *update && !bytes.Equal(got, want) {
				err = os.WriteFile(file, got, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !*update {
				wantText(t, file, string(got), string(want))
			}
		})
	}
}

// wantText tells the first line that differs.
func wantText(t *testing.T, file, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s:%d: got\n%s\nwant\n%s\nif it should be so: go test -run TestTraces -update",
				file, i+1, some(g, i), some(w, i))
		}
	}
}

// some returns a few lines.
func some(lines []string, from int) string {
	return strings.Join(lines[min(from, len(lines)):min(from+5, len(lines))], "\n")
}

// play returns a story with what the controller does in it.
func play(t *testing.T, story string) []byte {
	t.Helper()
	s := &stage{t: t, cfg: defaults()}
	defer s.close()
	for _, line := range strings.SplitAfter(story, "\n") {
		if input, ok := strings.CutPrefix(line, "> "); ok {
			s.out.WriteString(line)
			s.act(strings.TrimSpace(input))
		} else if !strings.HasPrefix(line, " ") {
			s.out.WriteString(line)
		}
	}
	return s.out.Bytes()
}

// defaults are those of the configuration.
func defaults() poolConfig {
	cfg := base()
	cfg.Policy = "job"
	cfg.Maximum, cfg.StartLimit, cfg.StopLimit = 2, 1, 1
	cfg.MinimumLifetime, cfg.MinimumActiveTime = 5*time.Minute, 2*time.Minute
	return cfg
}

// stage is where a story is played.
type stage struct {
	*stepped // nil until the first controller starts

	t    *testing.T
	cfg  poolConfig
	late time.Duration // how far the cloud's lists are behind
	out  bytes.Buffer
	said teller
}

func (s *stage) close() {
	if s.stepped != nil {
		s.stepped.close()
	}
}

// sentence is one sort of input.
type sentence struct {
	pattern string
	do      func(s *stage, words []string)
}

// sentences are all inputs.
func sentences() []sentence {
	return []sentence{
		{`the pool has (.+)`, func(s *stage, w []string) { s.configure(w[0]) }},
		{`the cloud's lists are (\w+) behind`, func(s *stage, w []string) { s.late = s.duration(w[0]) }},
		{`a controller starts`, func(s *stage, _ []string) { s.begin() }},
		{`the controller stops`, func(s *stage, _ []string) { s.stopController() }},
		{`the controller dies`, func(s *stage, _ []string) { s.tap.die(); s.dropController() }},
		{`(\w+) go by`, func(s *stage, w []string) { s.pass(s.duration(w[0])) }},
		{`(\d+) jobs? arrives?`, func(s *stage, w []string) { s.send(s.number(w[0])) }},
		{`(\d+) clients? asks? for a server`, func(s *stage, w []string) { s.send(s.number(w[0])) }},
		{`(\S+) takes a job`, func(s *stage, w []string) { s.hand(w[0]).take(s.t.Context()) }},
		{`(\S+) finishes its job`, func(s *stage, w []string) { s.hand(w[0]).finish(s.t.Context()) }},
		{`(\S+) reports load (\S+)`, func(s *stage, w []string) { s.hand(w[0]).set(s.load(w[1])) }},
		{`(\S+) hangs`, func(s *stage, w []string) { s.hand(w[0]).mute = true }},
		{`the answer to the next launch is lost`, func(s *stage, _ []string) { s.tap.loseAnswers("cloud.launch", 1) }},
		{`the controller dies before it hears of its next launch`, func(s *stage, _ []string) { s.dieLaunching() }},
	}
}

// act makes one thing happen, and tells what the controller does then.
func (s *stage) act(input string) {
	s.t.Helper()
	for _, each := range sentences() {
		words := regexp.MustCompile("^" + each.pattern + "$").FindStringSubmatch(input)
		if words == nil {
			continue
		}
		if each.do(s, words[1:]); s.stepped == nil {
			return
		}
		s.pass(0)
		s.said.tell(&s.out, s.records.list)
		s.records.list = nil
		return
	}
	s.t.Fatalf("nobody understands %q", input)
}

// configure changes the defaults: "policy resource, start_limit 2", with the keys of the configuration.
func (s *stage) configure(text string) {
	s.t.Helper()
	ints := map[string]*int{
		"minimum_number_of_instances": &s.cfg.Minimum, "maximum_number_of_instances": &s.cfg.Maximum,
		"start_limit": &s.cfg.StartLimit, "stop_limit": &s.cfg.StopLimit,
	}
	times := map[string]*time.Duration{
		"minimum_lifetime": &s.cfg.MinimumLifetime, "minimum_active_time": &s.cfg.MinimumActiveTime,
		"watchdog_interval": &s.cfg.WatchdogInterval, "boot_deadline": &s.cfg.BootDeadline,
	}
	for part := range strings.SplitSeq(text, ", ") {
		key, value, _ := strings.Cut(part, " ")
		switch {
		case key == "policy":
			s.cfg.Policy, s.cfg.Blob = value, value == "resource"
		case ints[key] != nil:
			*ints[key] = s.number(value)
		case times[key] != nil:
			*times[key] = s.duration(value)
		default:
			s.t.Fatalf("no pool in a trace has %q", part)
		}
	}
}

// bootTime is how long an instance boots in all traces.
const bootTime = 20 * time.Second

// begin starts a controller: the first one, or the successor of one that has ended.
func (s *stage) begin() {
	if s.stepped == nil {
		s.stepped = newStepped(s.t, s.cfg, nil, bootsIn(bootTime), func(o *memcloud.Options) { o.ListLag = s.late })
		s.workers.scripted = true
		s.said.start = s.start
	}
	s.startController()
}

// dieLaunching has the controller die when the cloud has launched what it asks for next.
func (s *stage) dieLaunching() {
	s.tap.failAtRandom(func(op string) (before, after error) {
		if op == "cloud.launch" {
			s.tap.faults = nil
			return nil, errDead
		}
		return nil, nil
	})
}

func (s *stage) hand(id string) *hand {
	s.t.Helper()
	w := s.workers.worker(pool.InstanceID(id))
	if w == nil {
		s.t.Fatalf("%s does not run; instances are %s", id, s.states())
	}
	return w
}

func (s *stage) duration(text string) time.Duration { return read(s.t, text, time.ParseDuration) }

func (s *stage) number(text string) int { return read(s.t, text, strconv.Atoi) }

func (s *stage) load(text string) float64 {
	return read(s.t, text, func(text string) (float64, error) { return strconv.ParseFloat(text, 64) })
}

// read reads a value in a sentence.
func read[T any](t *testing.T, text string, parse func(string) (T, error)) T {
	t.Helper()
	v, err := parse(text)
	if err != nil {
		t.Fatal(fmt.Errorf("read %q: %w", text, err))
	}
	return v
}
