package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// A client that has asked for very many numbers holds the two numbers of its sequence and
// little else: answers are not kept, however long they are and however many were
// asked for at once.
func TestLongNumbersAreNotKept(t *testing.T) {
	const (
		clients = 5
		index   = 50_000
		asked   = 100
	)
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	var wg sync.WaitGroup
	defer wg.Wait()
	digits := 0
	for range clients {
		here, there := net.Pipe()
		defer func() { _ = here.Close() }()
		c := &conversation{server: s, asked: tableSize, conn: there}
		for range index {
			c.seq.Next()
		}
		digits = c.seq.Digits()
		wg.Go(func() { _ = c.converse() })
		wg.Go(func() { _, _ = io.WriteString(here, strings.Repeat("\n", asked)) })
		r := bufio.NewReader(here)
		for i := range asked {
			if text, err := r.ReadString('\n'); err != nil || len(text) < digits {
				t.Fatalf("answer %d: got %d bytes, %v; want at least %d", i+1, len(text), err, digits)
			}
		}
	}
	each := (heap() - before) / clients
	// Keeping the answers would take 100 times the digits; the slack is for what the runtime keeps by chance.
	if most := int64(4*digits + 32<<10); each > most {
		t.Errorf("got %d bytes for each client at numbers of %d digits, want at most %d", each, digits, most)
	}
}

// BenchmarkLongLines shows that a line costs time in proportion to the digits of its
// answer: ns/digit is about the same for numbers ten times as long; conversion by
// division would make it ten times as much.
func BenchmarkLongLines(b *testing.B) {
	for _, index := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("index=%d", index), func(b *testing.B) {
			s, err := New(Options{})
			if err != nil {
				b.Fatal(err)
			}
			c := &conversation{server: s, asked: tableSize, conn: sink{wrote: func(int) {}}}
			for range index {
				c.seq.Next()
			}
			digits := c.seq.Digits()
			batch := []byte(strings.Repeat("\n", 100))
			for b.Loop() {
				if err := c.answer(batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)*digits), "ns/digit")
		})
	}
}

// However many answers a batch of requests has, few of them are in memory at a time.
func TestAnswersLeaveInBoundedWrites(t *testing.T) {
	t.Parallel()
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var largest, sum int
	c := &conversation{server: s, conn: sink{wrote: func(n int) {
		largest, sum = max(largest, n), sum+n
	}}}
	if err := c.answer([]byte(strings.Repeat("\n", tableSize))); err != nil {
		t.Fatal(err)
	}
	if longest := 210; largest > flushSize+longest || sum < 3*flushSize {
		t.Errorf("got a write of %d bytes of %d in all, want at most %d", largest, sum, flushSize+longest)
	}
}

func TestLargeBuffersAreNotLentAgain(t *testing.T) {
	t.Parallel()
	for range 100 { // the pool forgets at will
		var b buffers
		large := make([]byte, 0, keepSize+1)
		b.put(&large)
		if got := cap(*b.get()); got > keepSize {
			t.Fatalf("got a buffer of %d bytes, want at most %d", got, keepSize)
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // the second empties what sync.Pool kept over the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// sink is a connection that takes everything, and tells how much.
type sink struct {
	net.Conn
	wrote func(n int)
}

func (s sink) Write(p []byte) (int, error) {
	s.wrote(len(p))
	return len(p), nil
}
func (sink) SetWriteDeadline(time.Time) error { return nil }
func (sink) SetReadDeadline(time.Time) error  { return nil }
