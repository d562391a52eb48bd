package queuetest

import (
	"bytes"
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"cloudmaster/internal/queue"
)

func deliveryTests() map[string]func(*testing.T, Harness) {
	return map[string]func(*testing.T, Harness){
		"what is sent is received":               testRoundTrip,
		"any bytes can be sent":                  testBytes,
		"256 KiB can be sent":                    testLargeBody,
		"a thousand in one call":                 testThousand,
		"nothing to send is no error":            testSendNothing,
		"receive returns when the wait is over":  testEmpty,
		"a message ends a wait":                  testWaitEnds,
		"a batch is not waited for":              testBatchIsPrompt,
		"receivers never share a message":        testConcurrentReceivers,
		"it comes again after the timeout":       testVisibility,
		"a second handle sees the same":          testSecondHandle,
		"a cancelled receive takes nothing away": testCancelledReceive,
		"watch reports arrivals":                 testWatch,
	}
}

func testRoundTrip(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	want := numbered(25)
	before := time.Now()
	send(t, q, want...)
	got := receive(t, q, len(want), soon)
	same(t, h, got, want)
	ids := map[string]bool{}
	for _, m := range got {
		if m.Deliveries != 1 {
			t.Errorf("got delivery %d of %q, want 1", m.Deliveries, m.Body)
		}
		if ids[m.ID] || m.ID == "" || m.Receipt == "" {
			t.Errorf("got id %q, receipt %q, want ids that differ and a receipt", m.ID, m.Receipt)
		}
		ids[m.ID] = true
		if off := m.SentAt.Sub(before); off < -time.Minute || off > time.Minute {
			t.Errorf("got sent at %v, want about %v", m.SentAt, before)
		}
	}
}

func testBytes(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, want := range [][]byte{
		all, []byte("\n"), []byte("\xff\xfe not UTF-8"), []byte("NATS/1.0 404 No Messages\r\n\r\n"), {},
	} {
		sent := slices.Clone(want)
		if err := q.Send(t.Context(), sent); err != nil {
			t.Fatalf("send %q: %v", want, err)
		}
		clear(sent) // would show if the queue had kept the sender's bytes instead of a copy
		got := receive(t, q, 1, soon)[0]
		if !bytes.Equal(got.Body, want) {
			t.Errorf("got %q, want %q", got.Body, want)
		}
	}
}

func testLargeBody(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	want := bytes.Repeat([]byte("cloudmaster."), (256<<10)/12)
	if err := q.Send(t.Context(), want); err != nil {
		t.Fatalf("send %d bytes: %v", len(want), err)
	}
	if got := receive(t, q, 1, soon)[0]; !bytes.Equal(got.Body, want) {
		t.Errorf("got %d other bytes, want the %d sent", len(got.Body), len(want))
	}
}

func testThousand(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	want := numbered(1000)
	send(t, q, want...)
	got := receive(t, q, len(want), 6*soon)
	same(t, h, got, want)
	if err := q.Delete(t.Context(), receipts(got)...); err != nil {
		t.Fatalf("delete %d: %v", len(got), err)
	}
	what, zero := exactly(0, 0)
	backlog(t, h, q, what, zero)
}

func testSendNothing(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	for name, call := range map[string]func() error{
		"send":    func() error { return q.Send(t.Context()) },
		"extend":  func() error { return q.Extend(t.Context()) },
		"release": func() error { return q.Release(t.Context()) },
		"delete":  func() error { return q.Delete(t.Context()) },
	} {
		if err := call(); err != nil {
			t.Errorf("%s of nothing: got %v, want success", name, err)
		}
	}
	if _, err := q.Receive(t.Context(), 0, 0); err == nil {
		t.Error("receive at most 0: got no error, want one")
	}
}

func testEmpty(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	start := time.Now()
	nothing(t, q, 0)
	if took := time.Since(start); took > soon {
		t.Errorf("a receive without wait took %v", took)
	}
	start = time.Now()
	nothing(t, q, time.Second)
	if took := time.Since(start); took < 900*time.Millisecond || took > time.Second+soon {
		t.Errorf("a receive with a wait of 1s took %v", took)
	}
}

func testWaitEnds(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	start := time.Now()
	sent := make(chan error, 1)
	time.AfterFunc(moment, func() { sent <- q.Send(t.Context(), []byte("late")) })
	msgs, err := q.Receive(t.Context(), 1, 4*soon)
	if err := <-sent; err != nil { // the answer to the send may come after the message
		t.Errorf("send: %v", err)
	}
	if err != nil || len(msgs) != 1 {
		t.Fatalf("got %d messages, error %v, want 1", len(msgs), err)
	}
	if took := time.Since(start); took > soon {
		t.Errorf("the message came after %v", took)
	}
}

func testBatchIsPrompt(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	const prompt = 700 * time.Millisecond
	took := time.Duration(math.MaxInt64)
	for range 4 { // a busy machine may be slow once, but not four times
		send(t, q, "one", "two")
		start := time.Now()
		msgs, err := q.Receive(t.Context(), 10, 4*soon)
		if err != nil || len(msgs) == 0 {
			t.Fatalf("got %d messages, error %v, want 1 or more", len(msgs), err)
		}
		took = min(took, time.Since(start))
	}
	if took > prompt {
		t.Errorf("2 of at most 10 messages came after %v, want at once", took)
	}
}

func testConcurrentReceivers(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	want := numbered(300)
	send(t, q, want...)
	var mu sync.Mutex
	var got []queue.Message
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				msgs, err := q.Receive(t.Context(), 7, h.Lag+time.Second)
				if err != nil {
					t.Errorf("receive: %v", err)
				}
				if len(msgs) == 0 {
					return
				}
				mu.Lock()
				got = append(got, msgs...)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	h.Ordered = false
	same(t, h, got, want)
}

func testVisibility(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: 2 * h.Unit})
	if got := q.Visibility(); got != 2*h.Unit {
		t.Errorf("got visibility %v, want %v", got, 2*h.Unit)
	}
	send(t, q, "again")
	first := receive(t, q, 1, soon)[0]
	taken := time.Now()
	nothing(t, q, h.Unit/2)
	second := receive(t, q, 1, 2*h.Unit+soon)[0]
	if since := time.Since(taken); since < h.Unit {
		t.Errorf("it came again after %v, want %v", since, 2*h.Unit)
	}
	if second.ID != first.ID || second.Deliveries != 2 || string(second.Body) != "again" {
		t.Errorf("got id %q delivery %d body %q, want id %q delivery 2", second.ID, second.Deliveries, second.Body,
			first.ID)
	}
}

func testSecondHandle(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: 3 * h.Unit, Deliveries: 7})
	other, err := h.Open(t.Context(), q.Name())
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if other.Name() != q.Name() || other.Visibility() != q.Visibility() {
		t.Errorf("got %s with visibility %v, want %s with %v", other.Name(), other.Visibility(), q.Name(),
			q.Visibility())
	}
	send(t, q, "shared")
	got := receive(t, other, 1, soon)
	if err := q.Delete(t.Context(), receipts(got)...); err != nil {
		t.Fatalf("delete by the first what the second received: %v", err)
	}
	nothing(t, other, 3*h.Unit+h.Unit/2)
}

func testCancelledReceive(t *testing.T, h Harness) {
	visibility, back := time.Minute, soon // back must be much less than the visibility timeout
	if h.CancelTakes {
		visibility, back = h.Unit, h.Unit+4*soon // SQS may go on waiting, for a receiver that is gone, up to 20 s
	}
	q := h.Make(t, queue.Limits{Visibility: visibility, Deliveries: 1000})
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan []queue.Message, 1)
		go func() {
			msgs, err := q.Receive(ctx, 10, time.Minute)
			if err == nil && len(msgs) == 0 {
				t.Error("a cancelled receive returned neither messages nor an error")
			}
			done <- msgs
		}()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			send(t, q, "x")
		}()
		cancel() // while the message is on its way to the receiver
		got := <-done
		<-sent
		if len(got) == 0 {
			got = receive(t, q, 1, back)
		}
		if err := q.Delete(t.Context(), receipts(got)...); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
}

func testWatch(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	w, ok := q.(queue.Watcher)
	if !ok {
		t.Skip("this queue cannot be watched")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	arrivals, err := w.Watch(ctx)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	for range 3 {
		send(t, q, "a", "b", "c")
		select {
		case <-arrivals:
		case <-time.After(soon):
			t.Fatal("no signal")
		}
		// Each of the three messages may have been signalled separately.
		for quiet := false; !quiet; {
			select {
			case <-arrivals:
			case <-time.After(moment):
				quiet = true
			}
		}
	}
	cancel()
	send(t, q, "unheard")
	select {
	case <-arrivals: // a signal that was still on its way
	case <-time.After(moment):
	}
}
