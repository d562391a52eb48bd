package natsqueue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/natsqueue"
)

// proxy stands between a client and its broker, and can swallow or delay the broker's answers.
type proxy struct {
	listener net.Listener
	deaf     atomic.Bool  // answers are swallowed
	mute     atomic.Bool  // what the client says is swallowed
	gate     sync.RWMutex // locked for writing while answers are delayed
	work     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l}
	p.work.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			broker, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, broker)
			p.mu.Unlock()
			p.work.Go(func() { _, _ = io.Copy(calls{broker, p}, client) })
			p.work.Go(func() { _, _ = io.Copy(answers{client, p}, broker) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.work.Wait()
	})
	return p
}

type calls struct {
	to net.Conn
	p  *proxy
}

// Write swallows whole commands, because the client writes each in one piece.
func (c calls) Write(b []byte) (int, error) {
	if c.p.mute.Load() {
		return len(b), nil
	}
	return c.to.Write(b)
}

type answers struct {
	to net.Conn
	p  *proxy
}

func (a answers) Write(b []byte) (int, error) {
	a.p.gate.RLock()
	defer a.p.gate.RUnlock()
	if a.p.deaf.Load() {
		return len(b), nil
	}
	return a.to.Write(b)
}

// hold blocks all answers until the function that it returns is called.
func (p *proxy) hold() (goOn func()) {
	p.gate.Lock()
	return p.gate.Unlock
}

// cut ends all connections. Answers on later connections get through again.
func (p *proxy) cut() {
	p.deaf.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// TestAnExtensionIsRepeatedInTime: an extension that gets lost is repeated while the message is still in flight, also
// if the visibility timeout is as short as the configuration allows.
func TestAnExtensionIsRepeatedInTime(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	limits := queue.Limits{Visibility: time.Second}
	observer := ensure(t, b.connect(t), "jobs", limits)
	q, p := throughProxyWith(t, b, "jobs", limits)
	send(t, observer, "job")
	held := take(t, q)
	<-time.After(limits.Visibility / 3)
	p.mute.Store(true)
	time.AfterFunc(limits.Visibility/5, func() { p.mute.Store(false) })
	if err := q.Extend(t.Context(), held.Receipt); err != nil {
		t.Fatalf("extend: %v", err)
	}
	if got, err := observer.Receive(t.Context(), 1, limits.Visibility/3); err != nil || len(got) > 0 {
		t.Errorf("another receiver got %d messages and error %v, want none", len(got), err)
	}
}

// throughProxy opens a queue on a connection whose answers can be lost.
func throughProxy(t *testing.T, b *broker, name string) (*natsqueue.Queue, *proxy) {
	t.Helper()
	return throughProxyWith(t, b, name, queue.Limits{Visibility: time.Minute})
}

func throughProxyWith(t *testing.T, b *broker, name string, limits queue.Limits) (*natsqueue.Queue, *proxy) {
	t.Helper()
	p := startProxy(t, b.srv.Addr().String())
	nc, err := nats.Connect(
		"nats://"+p.listener.Addr().String(),
		nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectBufSize(-1),
	)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(nc.Close)
	js, err := natsqueue.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	return ensure(t, js, name, limits), p
}

// eventually waits until the backlog has these counts.
func eventually(t *testing.T, q queue.Queue, visible, inFlight int) {
	t.Helper()
	for deadline := time.Now().Add(soon); ; <-time.After(5 * time.Millisecond) {
		got, err := q.Backlog(t.Context())
		if err != nil {
			t.Fatalf("backlog: %v", err)
		}
		if got.Visible == visible && got.InFlight == inFlight {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got backlog %+v, want %d visible, %d in flight", got, visible, inFlight)
		}
	}
}

// TestLostConfirmations: the broker does what we ask, but its answers do not reach us, so calls are repeated.
func TestLostConfirmations(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	q, p := throughProxy(t, b, "jobs")
	observer := ensure(t, b.connect(t), "jobs", queue.Limits{Visibility: time.Minute})
	const n = 100
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = fmt.Append(nil, i)
	}

	p.deaf.Store(true)
	done := make(chan error, 1)
	go func() { done <- q.Send(t.Context(), bodies...) }()
	eventually(t, observer, n, 0)
	p.cut()
	if err := <-done; err != nil {
		t.Fatalf("send: %v", err)
	}
	eventually(t, observer, n, 0)

	msgs, err := observer.Receive(t.Context(), 2*n, soon)
	if err != nil || len(msgs) != n {
		t.Fatalf("got %d messages, error %v, want the %d sent", len(msgs), err, n)
	}
	receipts := make([]queue.Receipt, n)
	for i, m := range msgs {
		if string(m.Body) != string(bodies[i]) {
			t.Fatalf("got %q as message %d, want them in order", m.Body, i)
		}
		receipts[i] = m.Receipt
	}

	p.deaf.Store(true)
	go func() { done <- q.Delete(t.Context(), receipts...) }()
	eventually(t, observer, 0, 0)
	select {
	case err := <-done:
		t.Errorf("delete returned %v before the broker's answer", err)
	default:
	}
	start := time.Now()
	p.cut()
	if err := <-done; err != nil {
		t.Fatalf("delete: %v", err)
	}
	if took := time.Since(start); took > 2*time.Second { // one try may take 2.5 s
		t.Errorf("delete noticed the lost connection after %v", took)
	}
}

// TestLateMessageIsHandedBack: a receiver gives up while a message is on its way to it. Another
// receiver gets the message at once, without waiting for the visibility timeout.
func TestLateMessageIsHandedBack(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	q, p := throughProxy(t, b, "jobs")
	js := b.connect(t)
	observer := ensure(t, js, "jobs", queue.Limits{Visibility: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := q.Receive(ctx, 10, time.Minute)
		done <- err
	}()
	awaitReceiver(t, js, "jobs")
	goOn := p.hold()
	send(t, observer, "late")
	eventually(t, observer, 0, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	goOn()
	if got := take(t, observer); string(got.Body) != "late" {
		t.Errorf("got %q, want the message that reached the first receiver too late", got.Body)
	}
}
