package exchange_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/exchange"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

type news = map[pool.InstanceID]int

// board hands notices on when it is told to, so that they can be late.
type board struct {
	ears    []func(data []byte)
	waiting []string
	sent    []string // all, also those that are lost
	err     error    // what Notify and Listen return
	held    bool     // notices wait until let
	stops   int      // how often listening was stopped
	mu      sync.Mutex
}

func (b *board) Notify(topic string, data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if topic != "allocations" {
		return fmt.Errorf("topic %q", topic)
	}
	if b.err != nil {
		return b.err
	}
	b.sent, b.waiting = append(b.sent, string(data)), append(b.waiting, string(data))
	if !b.held {
		b.letLocked()
	}
	return nil
}

func (b *board) Listen(_ string, take func(data []byte)) (stop func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	b.ears = append(b.ears, take)
	return func() { b.stops++ }, nil
}

// let hands on all that waits.
func (b *board) let() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.letLocked()
}

func (b *board) letLocked() {
	for _, data := range b.waiting {
		for _, take := range b.ears {
			take([]byte(data))
		}
	}
	b.waiting = nil
}

func (b *board) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// member is an allocator that takes part, with one pool that says what it is told.
type member struct {
	*exchange.Exchange
	now     time.Time
	name    pool.Name
	hearing bool
	untold  news
	most    int // how many instances were asked for last
	heard   news
	log     bytes.Buffer
	count   map[exchange.Outcome]int
}

func join(t *testing.T, b *board, name pool.Name) *member {
	t.Helper()
	m := &member{now: noon, name: name, heard: news{}, count: map[exchange.Outcome]int{}}
	m.Exchange = exchange.New(b, []exchange.Pool{m}, exchange.Options{
		Log: slog.New(slog.NewTextHandler(&m.log, nil)), Observe: func(out exchange.Outcome) { m.count[out]++ },
	})
	if _, err := m.Listen(func() time.Time { return m.now }); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *member) Name() pool.Name         { return m.name }
func (m *member) SetHearing(hearing bool) { m.hearing = hearing }

func (m *member) Untold(most int) news {
	m.most = most
	out := m.untold
	m.untold = nil
	return out
}

func (m *member) Hear(told news, _ time.Time) {
	for id, clients := range told {
		m.heard[id] += clients
	}
}

// run lets time pass for all members, in steps.
func run(d time.Duration, members ...*member) {
	for end := members[0].now.Add(d); members[0].now.Before(end); {
		for _, m := range members {
			m.now = m.now.Add(exchange.Interval)
			m.Step(m.now)
		}
	}
}

func TestOthersHear(t *testing.T) {
	t.Parallel()
	var b board
	one, two, primes := join(t, &b, "fib"), join(t, &b, "fib"), join(t, &b, "primes")
	run(time.Second, one, two, primes)
	if !one.hearing || !two.hearing {
		t.Fatalf("got hearing %v and %v, want both", one.hearing, two.hearing)
	}
	one.untold = news{"a": 2, "b": 1}
	run(exchange.Interval, one, two, primes)
	if diff := cmp.Diff(news{"a": 2, "b": 1}, two.heard); diff != "" {
		t.Errorf("two (-want +got):\n%s", diff)
	}
	if len(one.heard)+len(primes.heard) != 0 {
		t.Errorf("got %v by itself and %v in another pool, want nothing", one.heard, primes.heard)
	}
	one.untold = news{"a": 1}
	run(time.Second, one, two, primes)
	if diff := cmp.Diff(news{"a": 3, "b": 1}, two.heard); diff != "" {
		t.Errorf("two, told more (-want +got):\n%s", diff)
	}
}

// Those that have nothing to tell send two notices a second, to hear themselves.
func TestQuietAllocatorsKeepHearing(t *testing.T) {
	t.Parallel()
	var b board
	one := join(t, &b, "fib")
	run(time.Minute, one)
	if !one.hearing {
		t.Error("got deaf in a quiet minute")
	}
	if n := len(b.sent); n < 60 || n > 121 {
		t.Errorf("got %d notices in a quiet minute, want 2 a second at most", n)
	}
}

func TestTheBrokerGoesAway(t *testing.T) {
	t.Parallel()
	var b board
	one, two := join(t, &b, "fib"), join(t, &b, "fib")
	run(time.Second, one, two)
	b.fail(errors.New("no broker"))
	one.untold = news{"a": 1}
	run(2*exchange.Interval, one)
	if one.hearing {
		t.Error("a notice that cannot be sent: got hearing, want deaf")
	}
	one.untold = news{"a": 5}
	run(time.Minute, one)
	if one.untold == nil {
		t.Error("deaf: asked for clients that nobody can be told of")
	}
	if one.count[exchange.Failed] < 60 {
		t.Errorf("got %d tries to send in a minute, want one each half second", one.count[exchange.Failed])
	}
	b.fail(nil)
	run(time.Second, one)
	if !one.hearing {
		t.Error("with the broker back: got deaf")
	}
	if n := strings.Count(one.log.String(), "cannot be heard"); n != 1 {
		t.Errorf("got %d lines on the outage, want 1:\n%s", n, one.log.String())
	}
}

// While nothing comes back, nobody knows what is lost; and what comes late in the end counts for nothing.
func TestNoticesHang(t *testing.T) {
	t.Parallel()
	var b board
	one, two := join(t, &b, "fib"), join(t, &b, "fib")
	run(time.Second, one, two)
	b.held = true
	run(exchange.Patience-600*time.Millisecond, one, two) // an own one came back up to 500 ms before
	if !one.hearing {
		t.Error("got deaf before the patience was over")
	}
	two.untold = news{"a": 7}
	run(exchange.Patience, one, two)
	if one.hearing || two.hearing {
		t.Errorf("nothing has come back: got hearing %v and %v", one.hearing, two.hearing)
	}
	b.let()
	run(exchange.Interval, one)
	if len(one.heard) > 0 || one.count[exchange.Ignored] == 0 {
		t.Errorf("got %v of late notices, %d ignored", one.heard, one.count[exchange.Ignored])
	}
	b.held = false
	run(time.Second, one, two)
	if !one.hearing || !two.hearing {
		t.Errorf("afterwards: got hearing %v and %v, want both", one.hearing, two.hearing)
	}
}

// An own notice that comes back late makes deaf at once: all that comes now is as old.
func TestLateNoticesMakeDeaf(t *testing.T) {
	t.Parallel()
	var b board
	one := join(t, &b, "fib")
	run(time.Second, one)
	b.held = true
	run(1600*time.Millisecond, one)
	b.mu.Lock()
	b.waiting = b.waiting[:1]
	b.mu.Unlock()
	b.let()
	run(exchange.Interval, one)
	if one.hearing {
		t.Error("a notice came back after more than a second: got hearing")
	}
}

func TestDamagedNotices(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"no JSON":         `clients` + strings.Repeat("x", 1000),
		"no sender":       `{"clients":{"fib":{"a":1}}}`,
		"no clients":      `{"from":"x","clients":{"fib":{"a":0}}}`,
		"minus clients":   `{"from":"x","clients":{"fib":{"a":-1}}}`,
		"too many":        `{"from":"x","clients":{"fib":{"a":1000001}}}`,
		"of another kind": `{"from":"x","clients":[1]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b board
			one := join(t, &b, "fib")
			run(time.Second, one)
			for range 100 {
				if err := b.Notify("allocations", []byte(data)); err != nil {
					t.Fatal(err)
				}
			}
			if len(one.heard) > 0 || one.count[exchange.Damaged] != 100 {
				t.Errorf("got %v and counts %v, want 100 damaged", one.heard, one.count)
			}
			if text := one.log.String(); strings.Count(text, "damaged") != 1 || len(text) > 1000 {
				t.Errorf("got %d bytes of log, want one short line:\n%s", len(text), text)
			}
		})
	}
}

// A notice must fit into a message of the broker, however many pools and instances there are.
func TestNoticesAreBounded(t *testing.T) {
	t.Parallel()
	var b board
	first, second := &member{name: "fib", heard: news{}}, &member{name: "primes", heard: news{}}
	x := exchange.New(&b, []exchange.Pool{first, second}, exchange.Options{})
	if _, err := x.Listen(func() time.Time { return noon }); err != nil {
		t.Fatal(err)
	}
	x.Step(noon)
	first.untold = news{"a": 1, "b": 1, "c": 1}
	x.Step(noon)
	if first.most > 10_000 || second.most != first.most-3 {
		t.Errorf("asked for %d and %d instances, want 3 less of the second", first.most, second.most)
	}
}

// A newer allocator may say more.
func TestUnknownKeys(t *testing.T) {
	t.Parallel()
	var b board
	one := join(t, &b, "fib")
	run(time.Second, one)
	if err := b.Notify("allocations", []byte(`{"from":"x","new":1,"clients":{"fib":{"a":1}}}`)); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(one.heard, news{"a": 1}) {
		t.Errorf("got %v, want one client for a", one.heard)
	}
}

// Run listens as soon as it can, steps by itself, and ends with its context.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b board
		var log bytes.Buffer
		b.fail(errors.New("no broker"))
		p := &member{name: "fib", heard: news{}}
		x := exchange.New(&b, []exchange.Pool{p}, exchange.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- x.Run(ctx) }()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "trying again") {
			t.Errorf("without a broker: got log %q, want one line", text)
		}
		b.fail(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !strings.Contains(log.String(), "tell each other") {
			t.Errorf("with a broker: got log %q", log.String())
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("got %v, want no error after a stop", err)
		}
		if b.stops != 1 {
			t.Errorf("stopped listening %d times, want once", b.stops)
		}
	})
}
