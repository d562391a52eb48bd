package ami

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloudmaster/integration/program"
	"cloudmaster/internal/message"
)

// The goals for an idle machine with two processors. The test reports how they compare, but does
// not fail: a failure while others use the machine would mean nothing.
const (
	goalKernelToStatus = 20 * time.Second
	goalUnitToStatus   = time.Second
)

// mostProcessorTime is how much processor time an emulated boot may take: four times the usual.
// Other users of the machine have little influence on it.
const mostProcessorTime = 90 * time.Second

// wantEC2 checks that cloud-init took the guest for an EC2 instance, and that nothing failed at the boot.
func (w *world) wantEC2() {
	w.t.Helper()
	w.wantSaid("cloud-init", "finished", "Datasource DataSourceEc2")
	for _, word := range []string{"FAILED", "Traceback"} {
		if l, ok := w.said(word); ok {
			w.t.Errorf("something failed at the boot: %s\n%s", l.text, w.tail())
		}
	}
}

// wantQuickStart reports how long the guest took until its first status.
func (w *world) wantQuickStart(first news) {
	w.t.Helper()
	unit := w.wantSaid("Starting", "cloudmaster.serv")
	fromKernel, fromUnit := first.at.Sub(w.kernelStart()), first.at.Sub(unit.at)
	used := w.processorTime()
	w.t.Logf("to the first status: %.1fs from power on, %.1fs from the kernel's start (goal %s), "+
		"%.2fs from the unit's (goal %s); %.0fs of processor time",
		first.at.Sub(w.began).Seconds(), fromKernel.Seconds(), goalKernelToStatus,
		fromUnit.Seconds(), goalUnitToStatus, used.Seconds())
	if used > mostProcessorTime {
		w.t.Errorf("the boot took %s of processor time, the most is %s\n%s", used, mostProcessorTime, w.tail())
	}
}

// processorTime returns how much processor time the guest has used.
func (w *world) processorTime() time.Duration {
	w.t.Helper()
	stat := read(w.t, fmt.Sprintf("/proc/%d/stat", w.cmd.Process.Pid))
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	if err := errors.Join(errUser, errSystem); err != nil {
		w.t.Fatalf("processor time: %v", err)
	}
	const tick = 10 * time.Millisecond
	return time.Duration(user+system) * tick
}

var stamp = regexp.MustCompile(`^\[ *(\d+\.\d+)\] `)

// kernelStart returns when the kernel's clock began. Kernel messages may arrive late but never
// early, so it is the earliest time that any of them allows.
func (w *world) kernelStart() time.Time {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	start := time.Now()
	for _, l := range w.console {
		if m := stamp.FindStringSubmatch(l.text); m != nil {
			seconds, _ := strconv.ParseFloat(m[1], 64) // the expression matches digits only
			if at := l.at.Add(-time.Duration(seconds * float64(time.Second))); at.Before(start) {
				start = at
			}
		}
	}
	return start
}

// wantStatus waits for a status with this activity.
func (w *world) wantStatus(from int, activity message.Activity) news {
	w.t.Helper()
	var found news
	w.until("the guest reports "+string(activity), func() (ok bool) {
		found, ok = w.heard.status(from, func(s message.Status) bool { return s.Activity == activity })
		return ok
	})
	return found
}

// wantNewestStatus waits until the newest status says this.
func (w *world) wantNewestStatus(activity message.Activity) {
	w.t.Helper()
	w.until("the guest's newest status is "+string(activity), func() bool {
		newest := message.Activity("")
		w.heard.status(0, func(s message.Status) bool { newest = s.Activity; return false })
		return newest == activity
	})
}

// wantLog waits until the guest has sent its controller a log message with this text.
func (w *world) wantLog(from int, text string) {
	w.t.Helper()
	w.until("the guest says "+text, func() bool {
		_, ok := program.Find(w.heard.logs(from), text)
		return ok
	})
}

// wantAgain waits until the console repeats a line, which shows that the unit was started again.
func (w *world) wantAgain(l line) {
	w.t.Helper()
	w.until("the console repeats "+l.text, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.ContainsFunc(w.console,
			func(m line) bool { return m.at.After(l.at) && text(m.text) == text(l.text) })
	})
}

// text returns what a program said, without the time and the program's name.
func text(line string) string {
	_, said, _ := strings.Cut(line, "]: ")
	return said
}

// entry is one entry of the journal.
type entry struct {
	Unit      string `json:"_SYSTEMD_UNIT"`
	About     string `json:"UNIT"` // the unit that a message of systemd is about
	Who       string `json:"SYSLOG_IDENTIFIER"`
	Message   any    `json:"MESSAGE"` // an array of bytes if it is not text
	Transport string `json:"_TRANSPORT"`
}

func (e entry) text() string { s, _ := e.Message.(string); return s }

// journal reads the journal of a guest that is off, from its disk.
func (w *world) journal() []entry {
	w.t.Helper()
	dir := w.t.TempDir()
	if out, err := exec.Command("debugfs", "-R", "rdump /var/log/journal "+dir, w.disk).CombinedOutput(); err != nil {
		w.t.Fatalf("read the disk: %v: %s", err, out)
	}
	found, _ := filepath.Glob(dir + "/journal/*") // the pattern is valid
	if len(found) != 1 {
		w.t.Fatalf("the disk has %d journals, want 1", len(found))
	}
	out, err := exec.Command("journalctl", "--directory", found[0], "--output=json", "--quiet", "--no-pager").Output()
	if err != nil {
		w.t.Fatalf("read the journal: %v", err)
	}
	var entries []entry
	for l := range strings.Lines(string(out)) {
		var e entry
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			w.t.Fatalf("journal: %v in %s", err, l)
		}
		entries = append(entries, e)
	}
	return entries
}

// has reports whether the disk of a guest that is off has a file.
func (w *world) has(file string) bool {
	w.t.Helper()
	out, err := exec.Command("debugfs", "-R", "stat "+file, w.disk).CombinedOutput()
	if err != nil {
		w.t.Fatalf("read the disk: %v: %s", err, out)
	}
	return strings.Contains(string(out), "Inode:")
}

// wantStoppedWell checks that the unit ended by itself when the guest was powered off, and that
// each line of its program is one structured record.
func (w *world) wantStoppedWell() {
	w.t.Helper()
	stopped, records := false, 0
	for _, e := range w.journal() {
		switch {
		case e.About == "cloudmaster.service":
			stopped = stopped || strings.HasPrefix(e.text(), "Stopped cloudmaster.service")
			if strings.Contains(e.text(), "Failed with result") || strings.Contains(e.text(), "SIGKILL") {
				w.t.Errorf("the unit did not end well: %s", e.text())
			}
		case e.Unit == "cloudmaster.service" && e.Transport == "stdout":
			records++
			if !json.Valid([]byte(e.text())) {
				w.t.Errorf("the program's record is not JSON: %s", e.text())
			}
		}
	}
	if !stopped {
		w.t.Errorf("systemd did not stop the unit\n%s", w.tail())
	}
	w.t.Logf("the journal has %d records of the program", records)
}

// wantOne checks that the unit's journal contains a line of the console.
func wantOne(t *testing.T, journal []entry, l line) {
	t.Helper()
	for _, e := range journal {
		if e.Unit == "cloudmaster.service" && e.text() == text(l.text) {
			return
		}
	}
	t.Errorf("the journal does not have what the console said: %s", l.text)
}
