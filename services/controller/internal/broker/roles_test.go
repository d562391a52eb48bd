package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/broker"
)

// locked is a broker with logins, which has the queues of two pools.
type locked struct {
	*broker.Broker

	hand       backend.Logins
	controller backend.Backend
}

var queues = backend.PoolQueues{Work: "primes-work", Status: "primes-status"}

func startLocked(t *testing.T) *locked {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Logins: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &locked{Broker: b, hand: b.Hand("demo")}
	l.controller = l.open(t, b.Own())
	for _, name := range []string{"primes-work", "primes-status", "fib-work", "fib-status"} {
		if _, err := l.controller.Ensure(t.Context(), name, queue.Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func (l *locked) open(t *testing.T, address string) backend.Backend {
	t.Helper()
	b, err := backend.Open(t.Context(), address, backend.Openers{"nats": natsbackend.Open},
		backend.Options{Deployment: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// instance returns the file with the login of an instance of the pool primes.
func (l *locked) instance(t *testing.T, id pool.InstanceID) string {
	t.Helper()
	doc, err := l.hand.Instance(queues, id)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// files returns those of the pool primes.
func (l *locked) files(t *testing.T) backend.PoolFiles {
	t.Helper()
	files, err := l.hand.Pool("primes", queues)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func open(t *testing.T, b backend.Backend, name string) queue.Queue {
	t.Helper()
	q, err := b.Queue(t.Context(), name)
	must(t, "open "+name, err)
	return q
}

func receive(t *testing.T, q queue.Queue) queue.Message {
	t.Helper()
	got, err := q.Receive(t.Context(), 1, 10*time.Second)
	if err != nil || len(got) != 1 {
		t.Fatalf("receive from %s: got %d messages, error %v", q.Name(), len(got), err)
	}
	return got[0]
}

// TestWorkerCanWork checks that a worker can do all that workers do, with the login of its instance and with the one of
// its pool.
func TestWorkerCanWork(t *testing.T) {
	t.Parallel()
	l := startLocked(t)
	senders := map[string]string{"instance": "i-1", "pool": ""}
	for what, file := range map[string]string{"instance": l.instance(t, "i-1"), "pool": l.files(t).Worker} {
		b := l.open(t, l.hand.Address(file))
		feed := open(t, l.controller, "primes-work")
		must(t, "feed", feed.Send(t.Context(), []byte("1"), []byte("2"), []byte("3")))
		work := open(t, b, "primes-work")
		first := receive(t, work)
		must(t, what+": extend", work.Extend(t.Context(), first.Receipt))
		must(t, what+": delete", work.Delete(t.Context(), first.Receipt))
		second := receive(t, work)
		must(t, what+": release", work.Release(t.Context(), second.Receipt))
		second = receive(t, work)
		must(t, what+": bury", work.Bury(t.Context(), second, "it is bad"))
		third := receive(t, work)
		must(t, what+": delete", work.Delete(t.Context(), third.Receipt))
		backlog, err := work.Backlog(t.Context())
		if err != nil || backlog.Visible+backlog.InFlight != 0 {
			t.Errorf("%s: got backlog %+v, error %v, want none", what, backlog, err)
		}
		must(t, what+": report", open(t, b, "primes-status").Send(t.Context(), []byte("status")))
		status := open(t, l.controller, "primes-status")
		got := receive(t, status)
		if string(got.Body) != "status" || got.Sender != senders[what] {
			t.Errorf("%s: got status %q from %q, want it from %q", what, got.Body, got.Sender, senders[what])
		}
		must(t, what+": delete the status", status.Delete(t.Context(), got.Receipt))
		letter := receive(t, open(t, l.controller, queue.DeadLetters("primes-work")))
		if string(letter.Body) != string(second.Body) {
			t.Errorf("%s: got letter %q, want %q", what, letter.Body, second.Body)
		}
	}
}

// TestClientCanSendAndRead checks what feeders and allocators do.
func TestClientCanSendAndRead(t *testing.T) {
	t.Parallel()
	l := startLocked(t)
	store, err := l.controller.Blobs(t.Context())
	must(t, "open the store", err)
	version, err := store.Put(t.Context(), "active-set/primes-instances", []byte("{}"), "")
	must(t, "publish", err)
	b := l.open(t, l.hand.Address(l.files(t).Client))
	must(t, "send", open(t, b, "primes-work").Send(t.Context(), []byte("1|5")))
	read, err := b.Blobs(t.Context())
	must(t, "open the store as a client", err)
	got, err := read.Get(t.Context(), "active-set/primes-instances", "")
	if err != nil || string(got.Data) != "{}" {
		t.Errorf("got %q, error %v", got.Data, err)
	}
	if _, err := read.Get(t.Context(), "active-set/primes-instances", version); !errors.Is(err, blob.ErrNotModified) {
		t.Errorf("read again: got %v, want %v", err, blob.ErrNotModified)
	}
}

// TestClientsTellEachOther checks what allocators of a deployment do: they hear each other's notices.
func TestClientsTellEachOther(t *testing.T) {
	t.Parallel()
	l := startLocked(t)
	login := l.hand.Address(l.files(t).Client)
	one, ok := l.open(t, login).(backend.Notices)
	other, ok2 := l.open(t, login).(backend.Notices)
	if !ok || !ok2 {
		t.Fatal("the backend has no notices")
	}
	heard := make(chan string, 100)
	stop, err := one.Listen("assigned", func(data []byte) { heard <- string(data) })
	must(t, "listen", err)
	defer stop()
	for deadline := time.After(10 * time.Second); ; { // a subscription takes effect a moment later
		must(t, "notify", other.Notify("assigned", []byte("i-1")))
		select {
		case got := <-heard:
			if got != "i-1" {
				t.Errorf("got %q, want i-1", got)
			}
			return
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatal("no notice was heard in 10 s")
		}
	}
}

// stranger is a connection that speaks NATS itself, with somebody's login.
type stranger struct{ *nats.Conn }

// dial connects with a login, whose file is as natsbackend.Login writes it; "" means without.
func dial(t *testing.T, l *locked, file string) *stranger {
	t.Helper()
	opts := []nats.Option{nats.NoReconnect(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}
	if file != "" {
		doc, err := os.ReadFile(file)
		must(t, "read login", err)
		lines := strings.Split(string(doc), "\n")
		name, password := strings.TrimPrefix(lines[0], "user: "), strings.TrimPrefix(lines[1], "password: ")
		opts = append(opts, nats.UserInfo(name, password), nats.CustomInboxPrefix(natsbackend.Inbox(name)))
	}
	nc, err := nats.Connect(l.URL(), opts...)
	must(t, "connect", err)
	t.Cleanup(nc.Close)
	return &stranger{nc}
}

// refusal says something and returns what the broker answers to it; nil if it takes it. The broker answers in order, so
// it refuses nothing of this after its answer to the ping that follows.
func (s *stranger) refusal(say func() error) error {
	before := s.LastError()
	if err := say(); err != nil {
		return err
	}
	if err := s.FlushTimeout(10 * time.Second); err != nil {
		return err
	}
	if err := s.LastError(); !errors.Is(err, before) || before == nil {
		return err
	}
	return nil
}

// forbidden are subjects that neither a worker nor a client of primes may publish to.
var forbidden = []string{
	"cloudmaster.queue.fib-work", "cloudmaster.queue.fib-status", "cloudmaster.queue.fib-status.i-1",
	"cloudmaster.queue.primes-status.i-2", "cloudmaster.queue.primes-work.i-1", "cloudmaster.hint.primes-work",
	"$KV.cloudmaster-demo.lease", "$KV.cloudmaster-demo.active-set/primes-instances",
	"$JS.API.STREAM.CREATE.x", "$JS.API.STREAM.UPDATE.cloudmaster-primes-work", "$JS.API.STREAM.LIST",
	"$JS.API.STREAM.NAMES", "$JS.API.STREAM.DELETE.cloudmaster-primes-work",
	"$JS.API.STREAM.PURGE.cloudmaster-primes-work",
	"$JS.API.STREAM.MSG.GET.cloudmaster-primes-status", "$JS.API.STREAM.MSG.DELETE.cloudmaster-primes-work",
	"$JS.API.DIRECT.GET.KV_cloudmaster-demo", "$JS.API.STREAM.SNAPSHOT.cloudmaster-primes-work",
	"$JS.API.CONSUMER.CREATE.cloudmaster-primes-status", "$JS.API.CONSUMER.DURABLE.CREATE.cloudmaster-primes-work.x",
	"$JS.API.CONSUMER.DELETE.cloudmaster-primes-work.workers", "$JS.API.CONSUMER.LIST.cloudmaster-primes-work",
	"$JS.API.CONSUMER.MSG.NEXT.cloudmaster-primes-status.workers",
	"$JS.API.CONSUMER.MSG.NEXT.cloudmaster-fib-work.workers",
	"$JS.ACK.cloudmaster-primes-status.workers.1.1.1.1.1", "$JS.ACK.cloudmaster-fib-work.workers.1.1.1.1.1",
	"cloudmaster.notice.x", "cloudmaster-other.notice.x", "$SYS.REQ.SERVER.PING", "_INBOX.of-somebody-else", "anything",
}

// overheard are subjects that neither may listen to.
var overheard = []string{
	">", "cloudmaster-other.notice.>", "_INBOX.>", "_INBOX.*", "cloudmaster.>", "cloudmaster.queue.primes-status",
	"cloudmaster.hint.primes-work",
	"$JS.>", "$JS.API.>", "$JS.EVENT.>", "$KV.>", "$SYS.>",
}

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// TestEverythingElseIsDenied tries the calls that a role has no need of, one by one.
func TestEverythingElseIsDenied(t *testing.T) {
	t.Parallel()
	l := startLocked(t)
	files := l.files(t)
	for role, c := range map[string]struct {
		file string
		more []string
	}{
		"worker of an instance": {l.instance(t, "i-1"), []string{
			"cloudmaster-demo.notice.x",
			"cloudmaster.queue.primes-work", "cloudmaster.queue.primes-status",
			"$JS.API.STREAM.MSG.GET.KV_cloudmaster-demo", "$JS.API.STREAM.INFO.KV_cloudmaster-demo",
		}},
		"worker of a pool": {files.Worker, []string{
			"cloudmaster.queue.primes-work", "cloudmaster.queue.primes-status.i-1",
			"$JS.API.STREAM.MSG.GET.KV_cloudmaster-demo", "cloudmaster-demo.notice.x",
		}},
		"client": {files.Client, []string{
			"cloudmaster.queue.primes-status", "cloudmaster.queue.primes-work-dead",
			"$JS.API.CONSUMER.MSG.NEXT.cloudmaster-primes-work.workers",
			"$JS.ACK.cloudmaster-primes-work.workers.1.1.1.1.1",
			"$JS.API.STREAM.MSG.GET.cloudmaster-primes-work", "$JS.API.STREAM.MSG.GET.KV_cloudmaster",
		}},
	} {
		s := dial(t, l, c.file)
		for _, subject := range append(c.more, forbidden...) {
			got := s.refusal(func() error { return s.Publish(subject, nil) })
			if want := fmt.Sprintf("Permissions Violation for Publish to %q", subject); !contains(got, want) {
				t.Errorf("%s publishes to %s: got %v, want it refused", role, subject, got)
			}
		}
		for _, subject := range overheard {
			got := s.refusal(func() error {
				_, err := s.Subscribe(subject, func(*nats.Msg) {})
				return err
			})
			if want := fmt.Sprintf("Permissions Violation for Subscription to %q", subject); !contains(got, want) {
				t.Errorf("%s listens to %s: got %v, want it refused", role, subject, got)
			}
		}
	}
}

// TestAnswersGoToInboxesOnly checks that nobody has the broker publish elsewhere what itself it may not publish.
func TestAnswersGoToInboxesOnly(t *testing.T) {
	t.Parallel()
	l := startLocked(t)
	must(t, "feed", open(t, l.controller, "fib-work").Send(t.Context(), []byte("kept")))
	for _, c := range []struct{ ask, answer string }{
		{"$JS.API.CONSUMER.MSG.NEXT.cloudmaster-primes-work.workers", "$JS.API.STREAM.DELETE.cloudmaster-fib-work"},
		{"$JS.API.CONSUMER.MSG.NEXT.cloudmaster-primes-work.workers", "cloudmaster.queue.primes-status.i-2"},
		{"cloudmaster.queue.primes-status.i-1", "$JS.API.STREAM.PURGE.cloudmaster-fib-work"},
		{"$JS.ACK.cloudmaster-primes-work.workers.1.1.1.1.1", "cloudmaster.queue.primes-status.i-2"},
		{"$JS.API.INFO", "_INBOXES"},
	} {
		s := dial(t, l, l.instance(t, "i-1"))
		ask := []byte(`{"batch":1,"no_wait":true}`)
		err := s.refusal(func() error { return s.PublishRequest(c.ask, c.answer, ask) })
		if err == nil {
			t.Errorf("the answer to %s goes to %s: got no refusal", c.ask, c.answer)
		}
	}
	if got := receive(t, open(t, l.controller, "fib-work")); string(got.Body) != "kept" {
		t.Errorf("got %q", got.Body)
	}
	backlog, err := open(t, l.controller, "primes-status").Backlog(t.Context())
	if err != nil || backlog.Visible != 0 {
		t.Errorf("got %+v on the status queue, error %v, want nothing", backlog, err)
	}
}

// TestNobodyElseComesIn checks that there is no way in without a login, or with one that is not quite right.
func TestNobodyElseComesIn(t *testing.T) {
	t.Parallel()
	l := startLocked(t)
	doc, err := l.hand.Instance(queues, "i-1")
	must(t, "login", err)
	password := strings.TrimPrefix(strings.Split(string(doc), "\n")[1], "password: ")
	for what, opts := range map[string][]nats.Option{
		"no login":              nil,
		"another's password":    {nats.UserInfo("controller", password)},
		"another instance":      {nats.UserInfo("worker/primes-work/primes-status/i-2", password)},
		"the whole pool":        {nats.UserInfo("worker/primes-work/primes-status", password)},
		"no password":           {nats.UserInfo("worker/primes-work/primes-status/i-1", "")},
		"a token":               {nats.Token(password)},
		"the system's account":  {nats.UserInfo("sys", password)},
		"a password in capital": {nats.UserInfo("worker/primes-work/primes-status/i-1", strings.ToUpper(password))},
	} {
		nc, err := nats.Connect(l.URL(), opts...)
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: got %v, want %v", what, err, nats.ErrAuthorization)
		}
		if nc != nil {
			nc.Close()
		}
	}
	_, err = backend.Open(t.Context(), l.URL(), backend.Openers{"nats": natsbackend.Open}, backend.Options{})
	if !errors.Is(err, queue.ErrDenied) || !strings.Contains(err.Error(), "?credentials=FILE") {
		t.Errorf("got %v, want an error that says how to log in", err)
	}
}

// TestLoginsOutliveTheController checks that what an earlier controller handed out is valid for its successor, and that
// only the owner can read what is kept.
func TestLoginsOutliveTheController(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var first []byte
	for range 2 {
		b, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", StoreDir: dir, Logins: true})
		must(t, "start", err)
		doc, err := b.Hand("").Instance(queues, "i-1")
		must(t, "login", err)
		if first == nil {
			first = doc
		}
		if string(doc) != string(first) {
			t.Errorf("got login %q, want that of before", doc)
		}
		_, err = b.Hand("").Pool("primes", queues)
		must(t, "logins of the pool", err)
		must(t, "close", b.Close())
	}
	entries, err := os.ReadDir(filepath.Join(dir, "access"))
	must(t, "list", err)
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got mode %v, error %v, want 0600", e.Name(), info.Mode(), err)
		}
	}
	if len(entries) != 4 {
		t.Errorf("got %d files, want secret, controller and two of the pool", len(entries))
	}
	must(t, "chmod", os.Chmod(filepath.Join(dir, "access", "secret"), 0o644))
	_, err = broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", StoreDir: dir, Logins: true})
	if err == nil || !strings.Contains(err.Error(), "can be read by others") {
		t.Errorf("got %v, want a secret that others can read refused", err)
	}
}

// TestLettersExistWithLogins checks that the stream of the dead letters is there before a worker needs it, because a
// worker must not make streams.
func TestLettersExistWithLogins(t *testing.T) {
	t.Parallel()
	l := startLocked(t)
	nc := dial(t, l, filepath.Join(filepath.Dir(l.files(t).Worker), "controller"))
	js, err := jetstream.New(nc.Conn)
	must(t, "jetstream", err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := js.Stream(ctx, "cloudmaster-primes-work-dead"); err != nil {
		t.Errorf("got %v, want the stream of dead letters", err)
	}
}
