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
	buffer  []byte // the segment, and after it so many bytes that the largest prime fits into them: see cross
	filled  int    // bytes of the buffer that are presieved
	block   int    // bytes; a segment has a whole number of blocks
}

// A segment stays in the second cache. The larger it is, the fewer of them the large primes, which cross out little in
// each, have to visit. The small primes, which cross out most, work through it in blocks that stay in the first cache.
const (
	blockSize  = 32 << 10
	smallPrime = 8 << 10
)

// stride is a prime and where its next multiples are. Those of one bit are in the bytes at + offset, at + offset + p,
// at + offset + 2p, and so on. The offsets never change, so a segment ends with one addition and not with eight.
type stride struct {
	p       uint32
	at      uint32    // counted from the start of the next block (small primes) or segment
	offsets [8]uint32 // below p
}

// newSieve returns a sieve that is right for numbers up to limit. If segment is 0, it chooses the size itself: four
// times the root is the best of those measured up to the 100,000,000th prime. Shorter ones make the large primes visit
// more segments, and longer ones leave the cache.
func newSieve(limit uint64, segment int) *sieve {
	root := uint64(math.Sqrt(float64(limit))) + 1
	if segment == 0 {
		segment = max(blockSize, 4*int(root))
	}
	size := words(uint64(segment))
	block := size
	if size > blockSize {
		block = blockSize
		size = (size + block - 1) / block * block
	}
	s := &sieve{
		patterns: newPatterns(),
		primes:   oddPrimes(presieved, root),
		low:      -size, // next begins at 0
		buffer:   make([]byte, size+words(root)),
		block:    int(block),
	}
	s.segment = s.buffer[:size]
	s.strides = make([]stride, 0, len(s.primes))
	return s
}

// words rounds a size up to whole words of 8 bytes.
func words(size uint64) uint64 { return (size + 7) &^ 7 }

// next sieves the next segment.
func (s *sieve) next() {
	s.low += uint64(len(s.segment))
	if s.filled > 0 { // the bytes after the last segment, in which its primes have already crossed out, begin this one
		s.filled = copy(s.buffer, s.buffer[len(s.segment):])
	}
	s.reachSquares()
	small := sort.Search(len(s.strides), func(i int) bool { return s.strides[i].p >= smallPrime })
	for at := 0; at < len(s.segment); at += s.block {
		s.fill(at)
		block := s.buffer[at:]
		for i := range s.strides[:small] {
			s.strides[i].cross(block, s.block)
		}
	}
	for i := range s.strides[small:] {
		s.strides[small+i].cross(s.buffer, len(s.segment))
	}
}

// fill presieves as much more of the buffer as the small primes reach from the block at this byte. That is not the
// whole buffer at once, so that it is still in the first cache when they come. The last block fills the rest.
func (s *sieve) fill(at int) {
	end := len(s.buffer)
	if at+s.block < len(s.segment) {
		end = min(end, at+s.block+smallPrime)
	}
	if end <= s.filled {
		return
	}
	presieve(s.buffer[s.filled:end], s.low+uint64(s.filled), &s.patterns)
	if s.filled == 0 {
		s.restoreSmall()
	}
	s.filled = end
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

// reachSquares begins with the primes whose squares are in the segment: smaller multiples of a prime have a smaller
// prime factor, too.
func (s *sieve) reachSquares() {
	end := s.low + uint64(len(s.segment))
	for len(s.strides) < len(s.primes) {
		p := s.primes[len(s.strides)]
		square := p * p / wheel
		if square >= end {
			return
		}
		st := stride{p: uint32(p), at: uint32(square - s.low)}
		for bit, at := range firstMultiples(p) {
			st.offsets[bit] = uint32(at - square)
		}
		s.strides = append(s.strides, st)
	}
}

// cross crosses out the prime's multiples in the first size bytes of the buffer, which are a block or a segment, and
// some in the p bytes after them. So every bit takes the same number of steps, and no bit needs a test of its own for
// the end. The next block or segment begins with the bytes that are after this one, and goes on behind those multiples.
//
// This is the inner loop of the sieve. It has one write for each bit, so that the bits are constants, and so that there
// is one loop and not eight.
func (st *stride) cross(buffer []byte, size int) {
	n, p := uint(size), uint(st.p)
	b0 := buffer[st.offsets[0]:][:n]
	b1 := buffer[st.offsets[1]:][:n]
	b2 := buffer[st.offsets[2]:][:n]
	b3 := buffer[st.offsets[3]:][:n]
	b4 := buffer[st.offsets[4]:][:n]
	b5 := buffer[st.offsets[5]:][:n]
	b6 := buffer[st.offsets[6]:][:n]
	b7 := buffer[st.offsets[7]:][:n]
	i := uint(st.at)
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
	st.at = uint32(i - n)
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
