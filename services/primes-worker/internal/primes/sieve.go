package primes

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sort"
)

// sieve walks over the number line, a segment at a time.
type sieve struct {
	patterns [len(presieveGroups)]pattern
	primes   []uint64 // from the first that is not presieved up to the square root of the limit
	strides  []stride // of the primes whose squares were reached: a prefix of primes

	low     uint64 // byte at which the segment begins
	segment []byte // a set bit is a number that is not prime
	buffer  []byte // the segment and one spare byte, see cross
	block   int    // bytes; a segment has a whole number of blocks
}

// A segment is as large as the second cache, so that the large primes, which cross out little in it, visit few of them.
// The small primes, which cross out most, work through it in blocks that stay in the first cache.
const (
	blockSize  = 48 << 10
	smallPrime = 4 << 10
)

// stride is a prime and, for each bit, the byte of its next multiple, counted from the start of the next segment.
// Between segments all of these are below p.
type stride struct {
	p  uint32
	at [8]uint32
}

// newSieve returns a sieve that is right for numbers up to limit. If segment is 0, it chooses the size itself: four
// times the root is the best of those measured up to the 100,000,000th prime. Shorter ones make the large primes visit
// more segments, and longer ones leave the cache.
func newSieve(limit uint64, segment int) *sieve {
	root := uint64(math.Sqrt(float64(limit))) + 1
	if segment == 0 {
		segment = max(blockSize, 4*int(root))
	}
	// The size is a multiple of whole words, and at least the root, so that every prime has a multiple in each segment.
	size := (max(uint64(segment), root) + 7) &^ 7
	block := size
	if size > blockSize {
		block = blockSize
		size = (size + block - 1) / block * block
	}
	s := &sieve{
		patterns: newPatterns(),
		primes:   oddPrimes(presieved, root),
		low:      -size, // next begins at 0
		buffer:   make([]byte, size+1),
		block:    int(block),
	}
	s.segment = s.buffer[:size]
	s.strides = make([]stride, 0, len(s.primes))
	return s
}

// next sieves the next segment.
func (s *sieve) next() {
	s.low += uint64(len(s.segment))
	small := sort.Search(len(s.strides), func(i int) bool { return s.strides[i].p >= smallPrime })
	for at := 0; at < len(s.segment); at += s.block {
		presieve(s.segment[at:at+s.block], s.low+uint64(at), &s.patterns)
		if s.low == 0 && at == 0 {
			s.restoreSmall()
		}
		block := s.buffer[at : at+s.block+1] // its spare byte is the first of the next block, which is written after it
		for i := range s.strides[:small] {
			s.strides[i].cross(block)
		}
	}
	for i := range s.strides[small:] {
		s.strides[small+i].cross(s.buffer)
	}
	s.reachSquares()
}

// restoreSmall corrects what the presieve has left wrong: 1 is no prime, and the presieved primes are primes.
func (s *sieve) restoreSmall() {
	s.segment[0] |= 1
	for _, group := range presieveGroups {
		for _, p := range group {
			at, bit := place(p) // a segment is 8 bytes at least, so all are in the first
			s.segment[at] &^= 1 << bit
		}
	}
}

// reachSquares begins to cross out the multiples of the primes whose squares are
// in the segment.
func (s *sieve) reachSquares() {
	end := s.low + uint64(len(s.segment))
	for len(s.strides) < len(s.primes) {
		p := s.primes[len(s.strides)]
		if p*p/wheel >= end {
			return
		}
		st := stride{p: uint32(p)}
		for bit, at := range firstMultiples(p) {
			for ; at < end; at += p {
				s.segment[at-s.low] |= 1 << bit
			}
			st.at[bit] = uint32(at - end)
		}
		s.strides = append(s.strides, st)
	}
}

// cross crosses out the prime's multiples in a segment. The buffer is the segment
// and one byte more.
//
// This is the inner loop of the sieve. It has one write for each bit, so that the bits are constants, and so that there
// is one loop and not eight.
func (st *stride) cross(buffer []byte) {
	size := len(buffer) - 1
	p := uint(st.p)
	n := uint(size) - p + 1 // all offsets are below p, so that none passes the end before n
	b0 := buffer[st.at[0]:][:n]
	b1 := buffer[st.at[1]:][:n]
	b2 := buffer[st.at[2]:][:n]
	b3 := buffer[st.at[3]:][:n]
	b4 := buffer[st.at[4]:][:n]
	b5 := buffer[st.at[5]:][:n]
	b6 := buffer[st.at[6]:][:n]
	b7 := buffer[st.at[7]:][:n]
	i := uint(0)
	for ; i < n; i += p {
		b0[i] |= 1 << 0
		b1[i] |= 1 << 1
		b2[i] |= 1 << 2
		b3[i] |= 1 << 3
		b4[i] |= 1 << 4
		b5[i] |= 1 << 5
		b6[i] |= 1 << 6
		b7[i] |= 1 << 7
	}
	// Each bit has at most one more multiple in the segment. The processor could not predict whether it has one, so
	// there is no branch: a write beyond the end goes to the spare byte.
	for bit := range st.at {
		at := i + uint(st.at[bit])
		buffer[min(at, uint(size))] |= 1 << bit
		next := at + p
		if at >= uint(size) {
			next = at
		}
		st.at[bit] = uint32(next - uint(size))
	}
}

// count returns how many primes the segment holds.
func (s *sieve) count() int {
	n := 0
	for b := s.segment; len(b) >= 8; b = b[8:] {
		n += bits.OnesCount64(^binary.LittleEndian.Uint64(b))
	}
	return n
}

// nth returns the k-th prime of the segment, k from 1 to count.
func (s *sieve) nth(k int) uint64 {
	for i, b := range s.segment {
		left := ^b
		if n := bits.OnesCount8(left); n < k {
			k -= n
			continue
		}
		for ; k > 1; k-- {
			left &= left - 1
		}
		return (s.low+uint64(i))*wheel + residues[bits.TrailingZeros8(left)]
	}
	panic("primes: the segment has fewer primes than it counted")
}
