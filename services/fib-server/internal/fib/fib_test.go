package fib_test

import (
	"fmt"
	"math/big"
	"slices"
	"testing"

	"cloudmaster/services/fib-server/internal/fib"
)

func TestTheSequenceBeginsAsItShould(t *testing.T) {
	t.Parallel()
	var s fib.Sequence
	if got := string(s.Append(nil)); got != "0" {
		t.Errorf("before the first Next: got %s, want 0", got)
	}
	for i, want := range []string{"1", "1", "2", "3", "5", "8", "13", "21", "34", "55", "89", "144"} {
		s.Next()
		if got := string(s.Append(nil)); got != want {
			t.Errorf("number %d: got %s, want %s", i+1, got, want)
		}
	}
}

// The naive twin: math/big over the first 20,000 numbers, which pass every
// length of the top word and, many times, a carry into a new word.
func TestTheSequenceAgreesWithMathBig(t *testing.T) {
	t.Parallel()
	var s fib.Sequence
	want := newBig()
	var got, text []byte
	for i := 1; i <= 20_000; i++ {
		s.Next()
		want.Next()
		got, text = s.Append(got[:0]), want.Append(text[:0])
		if !slices.Equal(got, text) {
			t.Fatalf("number %d: got %s, want %s", i, got, text)
		}
		if s.Digits() != len(text) {
			t.Fatalf("digits of number %d: got %d, want %d", i, s.Digits(), len(text))
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	s := at(100)
	if got, want := string(s.Append([]byte("F(100)="))), "F(100)=354224848179261915075"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSequencesAreIndependent(t *testing.T) {
	t.Parallel()
	var a, b fib.Sequence
	for range 50 {
		a.Next()
	}
	b.Next()
	if got, want := string(a.Append(nil)), "12586269025"; got != want {
		t.Errorf("first sequence: got %s, want %s", got, want)
	}
	if got, want := string(b.Append(nil)), "1"; got != want {
		t.Errorf("second sequence: got %s, want %s", got, want)
	}
}

func TestAStepIntoALargeEnoughBufferAllocatesNothing(t *testing.T) {
	s := at(50_000)
	buf := make([]byte, 0, 2*s.Digits())
	if got := testing.AllocsPerRun(10, func() {
		s.Next()
		buf = s.Append(buf[:0])
	}); got > 0 {
		t.Errorf("got %v allocations per number, want 0", got)
	}
}

// BenchmarkNumber is the cost of one number, step and text, at three places of
// the sequence, beside math/big at the same places. What matters is the ratio of the two.
func BenchmarkNumber(b *testing.B) {
	for _, impl := range []struct {
		name string
		zero func() sequence
	}{
		{"fib", func() sequence { return new(fib.Sequence) }},
		{"big", func() sequence { return newBig() }},
	} {
		for _, index := range []int{100, 1_000, 50_000} {
			b.Run(fmt.Sprintf("index=%d/impl=%s", index, impl.name), func(b *testing.B) {
				benchmarkFrom(b, index, impl.zero)
			})
		}
	}
}

// benchmarkFrom measures numbers from index on, starting again before they get
// a tenth longer.
func benchmarkFrom(b *testing.B, index int, zero func() sequence) {
	span := max(50, index/10)
	var s sequence
	var buf []byte
	for i := 0; b.Loop(); i++ {
		if i%span == 0 {
			b.StopTimer()
			s = zero()
			for range index {
				s.Next()
			}
			b.StartTimer()
		}
		s.Next()
		buf = s.Append(buf[:0])
	}
}

type sequence interface {
	Next()
	Append(dst []byte) []byte
}

func at(index int) *fib.Sequence {
	s := new(fib.Sequence)
	for range index {
		s.Next()
	}
	return s
}

// bigSequence is the same sequence kept by math/big.
type bigSequence struct{ cur, prev *big.Int }

func newBig() *bigSequence { return &bigSequence{cur: big.NewInt(0), prev: big.NewInt(1)} }

// Next moves on to the next number.
func (s *bigSequence) Next() {
	s.prev.Add(s.prev, s.cur)
	s.cur, s.prev = s.prev, s.cur
}

// Append appends the number in decimal to dst.
func (s *bigSequence) Append(dst []byte) []byte { return s.cur.Append(dst, 10) }

func TestTheTableHoldsTheSequenceAndLeadsOn(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 500} {
		table, want := fib.NewTable(n), new(fib.Sequence)
		if table.Len() != n {
			t.Errorf("length: got %d, want %d", table.Len(), n)
		}
		for i := range n {
			want.Next()
			if got, want := string(table.Append([]byte("x"), i)), "x"+string(want.Append(nil)); got != want {
				t.Fatalf("table of %d, number %d: got %s, want %s", n, i, got, want)
			}
		}
		first, second := table.Rest(), table.Rest()
		for range 300 {
			first.Next()
		}
		second.Next()
		want.Next()
		if got, want := string(second.Append(nil)), string(want.Append(nil)); got != want {
			t.Errorf("number behind a table of %d: got %s, want %s", n, got, want)
		}
	}
}
