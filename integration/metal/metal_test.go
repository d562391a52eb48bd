package metal

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// modeVar turns the test binary into an instance's process; its value says which kind.
const modeVar = "METAL_TEST_INSTANCE"

// hostVar turns the test binary into a program that runs metal on the EC2 at that address, with the
// instances' logs in the directory of hostDirVar.
const hostVar, hostDirVar = "METAL_TEST_HOST", "METAL_TEST_HOST_DIR"

// longestLife bounds the life of processes that a failed test has left behind.
const longestLife = 2 * time.Minute

func TestMain(m *testing.M) {
	if mode := os.Getenv(modeVar); mode != "" {
		os.Exit(beInstance(mode))
	}
	if endpoint := os.Getenv(hostVar); endpoint != "" {
		fmt.Fprintln(os.Stderr, beHost(endpoint, os.Getenv(hostDirVar)))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// beInstance asks the metadata service for its identity, prints it, and waits for SIGTERM.
func beInstance(mode string) int {
	time.AfterFunc(longestLife, func() { os.Exit(1) })
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	service := os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")
	token, _ := ask(http.MethodPut, service+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	for _, path := range []string{"meta-data/instance-id", "user-data"} {
		text, _ := ask(http.MethodGet, service+"/latest/"+path, "X-aws-ec2-metadata-token", token)
		fmt.Printf("%s=%s\n", path, text)
	}
	if mode == "parent" {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), modeVar+"=child")
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Printf("child=%d\n", child.Process.Pid)
	}
	fmt.Printf("pid=%d\n", os.Getpid())
	fmt.Printf("url=%s key=%q file=%s\nready\n",
		os.Getenv("AWS_ENDPOINT_URL"), os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SHARED_CREDENTIALS_FILE"))
	switch mode {
	case "ends":
		return 3
	case "stubborn":
		<-stop
		fmt.Println("no")
		select {}
	}
	<-stop
	fmt.Println("stopped")
	return 0
}

// beHost runs metal until it is killed, or returns why it cannot.
func beHost(endpoint, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = Start(context.Background(), endpoint, dir, map[string]string{"ami-i": self},
		Options{Interval: 5 * time.Millisecond, Env: []string{modeVar + "=good"}})
	if err != nil {
		return err
	}
	<-time.After(longestLife)
	return errors.New("not killed")
}

func ask(method, url, header, value string) (text string, status int) {
	req, err := http.NewRequest(method, url, http.NoBody)
	if err != nil {
		return err.Error(), 0
	}
	if header != "" {
		req.Header.Set(header, value)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err.Error(), 0
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error(), 0
	}
	return string(body), resp.StatusCode
}

// records is an EC2 that only keeps records of instances, as LocalStack's does. Its pages have one
// instance each.
type records struct {
	mu     sync.Mutex
	order  []string
	state  map[string]string
	broken bool
	auth   string
}

func (r *records) set(id, state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.state[id]; !ok {
		r.order = append(r.order, id)
	}
	r.state[id] = state
}

func (r *records) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.state, id)
	r.order = slices.DeleteFunc(r.order, func(o string) bool { return o == id })
}

func (r *records) breakDown(broken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = broken
}

// ServeHTTP answers the two calls that metal makes.
func (r *records) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth = req.Header.Get("Authorization")
	switch {
	case r.broken:
		http.Error(w, "broken", http.StatusInternalServerError)
	case req.FormValue("Action") == "DescribeInstanceAttribute":
		text := base64.StdEncoding.EncodeToString([]byte("pool: " + req.FormValue("InstanceId")))
		fmt.Fprintf(w, "<R><userData><value>%s</value></userData></R>", text)
	case req.FormValue("Action") == "DescribeInstances" && req.FormValue("Filter.1.Value.1") == deploymentTag:
		r.page(w, req.FormValue("NextToken"))
	default:
		http.Error(w, "unknown", http.StatusBadRequest)
	}
}

func (r *records) page(w io.Writer, from string) {
	next := ""
	fmt.Fprint(w, xml.Header, "<R><reservationSet>")
	if i := max(0, slices.Index(r.order, from)); i < len(r.order) {
		id := r.order[i]
		image, _, _ := strings.Cut(id, "/")
		fmt.Fprintf(w, "<item><instancesSet><item><instanceId>%s</instanceId><imageId>ami-%s</imageId>"+
			"<instanceState><name>%s</name></instanceState></item></instancesSet></item>",
			id, image[:1], r.state[id])
		if i+1 < len(r.order) {
			next = r.order[i+1]
		}
	}
	fmt.Fprintf(w, "</reservationSet><nextToken>%s</nextToken></R>", next)
}

type bench struct {
	*Metal
	cloud *records
	dir   string
	t     *testing.T
}

// setup runs metal on an EC2 of its own. The image ami-i is this test binary.
func setup(t *testing.T, mode string) bench {
	t.Helper()
	cloud := &records{state: make(map[string]string)}
	server := httptest.NewServer(cloud)
	t.Cleanup(server.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := bench{cloud: cloud, dir: filepath.Join(t.TempDir(), "logs"), t: t}
	b.Metal, err = Start(t.Context(), server.URL, b.dir, map[string]string{"ami-i": self},
		Options{
			Wire: "http://wire", Interval: 5 * time.Millisecond, Grace: 300 * time.Millisecond,
			Env: []string{modeVar + "=" + mode},
		})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b bench) log(id string) string {
	text, _ := os.ReadFile(filepath.Join(b.dir, id+".log"))
	return string(text)
}

func (b bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("%s: not within 20 s; running %v", what, b.Running())
		}
	}
}

func (b bench) ready(id string) {
	b.t.Helper()
	b.eventually(id+" ready", func() bool {
		return strings.Contains(b.log(id), "ready\n") && slices.Contains(b.Running(), id)
	})
}

func (b bench) gone(id string) {
	b.t.Helper()
	b.eventually(id+" gone", func() bool { return !slices.Contains(b.Running(), id) })
}

func (b bench) close() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Errorf("close: %v", err)
	}
	if got := b.Running(); len(got) > 0 {
		b.t.Errorf("running after Close: %v", got)
	}
}

func TestInstanceLearnsWhoItIs(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "the-callers")
	b := setup(t, "good")
	b.cloud.set("i-0", "terminated")
	b.cloud.set("i-1", "running")
	b.cloud.set("i-2", "running")
	b.ready("i-1")
	b.ready("i-2")
	b.close()
	for _, want := range []string{
		"meta-data/instance-id=i-1\n", "user-data=pool: i-1\n", `url=http://wire key="" file=/dev/null`, "stopped\n",
	} {
		if !strings.Contains(b.log("i-1"), want) {
			t.Errorf("log: got %q, want %q in it", b.log("i-1"), want)
		}
	}
	if b.log("i-0") != "" {
		t.Errorf("a terminated instance ran: %q", b.log("i-0"))
	}
	if !strings.Contains(b.cloud.auth, "/eu-west-1/ec2/aws4_request") {
		t.Errorf("credential scope: got %q, want region and service in it", b.cloud.auth)
	}
}

func TestInstanceEnds(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		mode string
		end  func(b bench)
		log  string // how it ends
	}{
		"terminated": {
			mode: "good", end: func(b bench) { b.cloud.set("i-1", "shutting-down") }, log: "stopped\n",
		},
		"gone":               {mode: "good", end: func(b bench) { b.cloud.forget("i-1") }, log: "stopped\n"},
		"killed if it stays": {mode: "stubborn", end: func(b bench) { b.cloud.set("i-1", "terminated") }, log: "no\n"},
		"killed if it hangs": {
			mode: "good", end: func(b bench) { b.must(b.Hang("i-1")); b.cloud.set("i-1", "terminated") },
			log: "ready\n",
		},
		"asked to end while it hangs, and goes on": {
			mode: "good",
			end: func(b bench) {
				b.must(b.Hang("i-1"))
				b.cloud.set("i-1", "terminated")
				b.must(b.Resume("i-1"))
			},
			log: "stopped\n",
		},
		"crashed, without a word": {mode: "good", end: func(b bench) { b.must(b.Crash("i-1")) }, log: "ready\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, c.mode)
			defer b.close()
			b.cloud.set("i-1", "running")
			b.ready("i-1")
			c.end(b)
			b.gone("i-1")
			if !strings.HasSuffix(b.log("i-1"), c.log) {
				t.Errorf("log: got %q, want it to end with %q", b.log("i-1"), c.log)
			}
			if err := b.Crash("i-1"); err == nil {
				t.Error("Crash of a process that has ended: got no error")
			}
		})
	}
}

func (b bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestProcessThatEndsIsNotStartedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, "ends")
	b.cloud.set("i-1", "running")
	b.eventually("first end", func() bool { return strings.Contains(b.log("i-1"), "ready\n") })
	b.gone("i-1")
	// Metal looks at all instances at once: when it has seen i-2, it has also looked at i-1 again.
	b.cloud.set("i-2", "running")
	b.eventually("second", func() bool { return strings.Contains(b.log("i-2"), "ready\n") })
	b.close()
	if got := strings.Count(b.log("i-1"), "ready\n"); got != 1 {
		t.Errorf("i-1 ran %d times, want once", got)
	}
}

func TestInstancesThatCannotBeSeenRunOn(t *testing.T) {
	t.Parallel()
	b := setup(t, "good")
	defer b.close()
	b.cloud.set("i-1", "running")
	b.ready("i-1")
	b.cloud.breakDown(true)
	if _, err := b.ec2.list(t.Context()); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("list: got %v, want an error with the status", err)
	}
	b.cloud.breakDown(false)
	b.cloud.set("i-2", "running")
	b.ready("i-2")
	if strings.Contains(b.log("i-1"), "stopped") {
		t.Error("i-1 was stopped while the list failed")
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	b := setup(t, "good")
	b.Delay(time.Hour)
	b.cloud.set("i-1", "running")
	b.eventually("i-1 seen", func() bool { return b.seen("i-1") })
	b.Delay(0)
	b.cloud.set("i-2", "running")
	b.ready("i-2")
	if b.log("i-1") != "" {
		t.Errorf("i-1 has booted: %q", b.log("i-1"))
	}
	if err := b.Hang("i-1"); err == nil {
		t.Error("Hang of an instance that has not booted: got no error")
	}
	b.close()
}

func (b bench) seen(id string) bool { return b.machine(id) != nil }

// TestImageThatRunsNothing: instances of an image without a binary run, and have no process.
func TestImageThatRunsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, "good")
	b.Image("ami-x", "")
	b.cloud.set("x-1", "running")
	b.eventually("x-1 booted", func() bool {
		m := b.machine("x-1")
		if m == nil {
			return false
		}
		select {
		case <-m.ended:
			return true
		default:
			return false
		}
	})
	if got := b.Running(); len(got) != 0 {
		t.Errorf("got processes of %q, want none", got)
	}
	b.close()
}

func TestUnknownImageIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t, "good")
	b.cloud.set("x-1", "running")
	b.eventually("x-1 failed", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.machines["x-1"] != nil && b.machines["x-1"].failure() != nil
	})
	if err := b.Close(); err == nil || !strings.Contains(err.Error(), "ami-x") ||
		!strings.Contains(err.Error(), "x-1") {
		t.Errorf("close: got %v, want an error that names the instance and its image", err)
	}
	if err := b.Crash("i-9"); err == nil || !strings.Contains(err.Error(), "i-9") {
		t.Errorf("Crash of an unknown instance: got %v, want an error with its id", err)
	}
}
