package ami

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"cloudmaster/integration/imds"
	"cloudmaster/internal/agent"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

const (
	imageVar = "CLOUDMASTER_AMI"
	dirVar   = "CLOUDMASTER_AMI_DIR"

	instanceID = "i-0123456789abcdef0"
	workQueue  = "guest-work"
	statQueue  = "guest-status"
	visibility = 30 * time.Second
)

// TestMain builds guestpipe, the program by which QEMU connects the guest to servers on the host.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(imageVar) == "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "cloudmaster-ami-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }() // nobody needs it any more
		guestpipe = filepath.Join(dir, "guestpipe")
		err = exec.Command("go", "build", "-o", guestpipe, "cloudmaster/integration/ami/guestpipe").Run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "build guestpipe: %v\n", err)
		return 1
	}
	return m.Run()
}

var guestpipe string // path of the program; written by run

// world is a guest with everything that it can reach: its metadata service, and a broker.
type world struct {
	*guest
	metadata *imds.Service
	backend  backend.Backend
	work     queue.Queue
	address  string // of the backend, as the guest reaches it
	fib      string // the address at which clients on the host reach the guest's fib-server
	disk     string
	heard    *heard
}

// needImage skips the test unless the image under test is one of those named.
func needImage(t *testing.T, names ...string) {
	t.Helper()
	image, dir := os.Getenv(imageVar), os.Getenv(dirVar)
	if image == "" {
		t.Skipf("set %s and %s to boot an image; make ami-test IMAGE=primes does", imageVar, dirVar)
	}
	for _, file := range []string{"disk.img", "vmlinuz", "initrd.img", "base.list", "image.list", "security.txt"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Fatalf("%s is %q, but disk.sh has made no image there; run make ami-test: %v", dirVar, dir, err)
		}
	}
	for _, name := range names {
		if name == image {
			return
		}
	}
	if len(names) > 0 {
		t.Skipf("%s is %s, and this is a test of %v", imageVar, image, names)
	}
}

// onNATS makes a world whose broker is NATS with JetStream. The guest is still off.
func onNATS(t *testing.T) *world {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the broker does not start")
	}
	b, err := backend.Open(t.Context(), srv.ClientURL(), backend.Openers{"nats": natsbackend.Open}, backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, b, brokerPort, srv.Addr().String(), fmt.Sprintf("nats://%s:%d", guestServer, brokerPort))
}

// newWorld makes a world whose guest reaches a server on the host at a port.
func newWorld(t *testing.T, b backend.Backend, port int, server, address string) *world {
	t.Helper()
	w := &world{backend: b, address: address, disk: copyDisk(t)}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close the backend: %v", err)
		}
	})
	var status queue.Queue
	for name, q := range map[string]*queue.Queue{workQueue: &w.work, statQueue: &status} {
		var err error
		if *q, err = b.Ensure(t.Context(), name, queue.Limits{Visibility: visibility}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.metadata, err = imds.Listen(t.Context(), "127.0.0.1:0", imds.Instance{
		ID: instanceID, Image: "ami-0123456789abcdef0", Type: "t3.micro", Region: "eu-west-1",
		PublicHost: "guest.example.com", LocalHost: "ip-169-254-10-15", LocalIPv4: guestFirst,
		MAC: guestMAC, Subnet: guestNet,
		UserData: w.userData(t),
		Role:     "guest", Credentials: imds.Credentials{AccessKeyID: "test", SecretAccessKey: "test", Token: "test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.metadata.Close(); err != nil {
			t.Errorf("close the metadata service: %v", err)
		}
	})
	fib := freePort(t)
	w.fib = fmt.Sprintf("127.0.0.1:%d", fib)
	control := filepath.Join(t.TempDir(), "qmp")
	servers := map[int]string{metadataPort: w.metadata.Addr(), port: server}
	args := qemu(w.disk, control, guestpipe, servers, map[int]int{fib: guestFibPort})
	w.guest = &guest{t: t, control: control, args: args}
	w.heard = listen(t, status)
	return w
}

// userData returns the document that the controller gives its instances.
func (w *world) userData(t *testing.T) string {
	t.Helper()
	var settings map[string]any
	if os.Getenv(imageVar) == "primes" {
		settings = map[string]any{"max_n": 2_000_000_000}
	}
	doc, err := agent.UserData{
		Deployment: "boot", Pool: "guest", Backend: w.address,
		Queues: agent.Queues{Work: workQueue, Status: statQueue}, StatusInterval: time.Minute,
		Settings: settings,
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// send sends a job to the work queue.
func (w *world) send(body string) {
	w.t.Helper()
	if err := w.work.Send(w.t.Context(), []byte(body)); err != nil {
		w.t.Fatal(err)
	}
}

// wantBacklog waits until the work queue has so many visible messages, and none in flight.
func (w *world) wantBacklog(visible int) {
	w.t.Helper()
	w.until(fmt.Sprintf("the work queue has %d messages", visible), func() bool {
		b, err := w.work.Backlog(w.t.Context())
		return err == nil && b == pool.Backlog{Visible: visible, Known: true}
	})
}

func copyDisk(t *testing.T) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.img")
	image := filepath.Join(os.Getenv(dirVar), "disk.img")
	if out, err := exec.Command("cp", "--sparse=always", image, disk).CombinedOutput(); err != nil {
		t.Fatalf("copy the disk: %v: %s", err, out)
	}
	return disk
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // closed, so that QEMU can listen at its address
	return l.Addr().(*net.TCPAddr).Port
}

// heard is what the guest has sent to its status queue.
type heard struct {
	mu       sync.Mutex
	messages []news // guarded by mu
}

// news is one message, with the time at which it came.
type news struct {
	at time.Time
	message.Message
}

// listen receives all messages until the test ends.
func listen(t *testing.T, q queue.Queue) *heard {
	t.Helper()
	h := &heard{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			batch, err := q.Receive(ctx, 10, time.Second)
			if err != nil && ctx.Err() == nil {
				t.Errorf("listen: %v", err)
				return
			}
			for _, m := range batch {
				h.take(t, m)
				if err := q.Delete(ctx, m.Receipt); err != nil && ctx.Err() == nil {
					t.Errorf("listen: %v", err)
				}
			}
		}
	}()
	return h
}

func (h *heard) take(t *testing.T, m queue.Message) {
	parsed, err := message.ParseStd(m.Body)
	if err != nil {
		t.Errorf("the guest sent %q: %v", m.Body, err)
		return
	}
	if from := parsed.From(); from != instanceID {
		t.Errorf("sender: got %q, want %q", from, instanceID)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = append(h.messages, news{time.Now(), parsed})
}

// mark returns how many messages have come, for tests that look only at later ones.
func (h *heard) mark() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.messages)
}

// logs returns the guest's log messages after the mark.
func (h *heard) logs(from int) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var texts []string
	for _, n := range h.messages[from:] {
		if l, ok := n.Message.(message.Log); ok {
			texts = append(texts, l.Text)
		}
	}
	return texts
}

// count returns how many of the guest's log messages contain the text.
func (h *heard) count(text string) int {
	n := 0
	for _, l := range h.logs(0) {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

// status returns the first status after the mark that meets the condition.
func (h *heard) status(from int, want func(message.Status) bool) (news, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.messages[from:] {
		if s, ok := n.Message.(message.Status); ok && want(s) {
			return n, true
		}
	}
	return news{}, false
}
