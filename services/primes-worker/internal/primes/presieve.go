package primes

import "encoding/binary"

// Most of all crossings-out are multiples of the smallest primes. For each of these groups of primes the pattern of
// multiples repeats every p1·p2·… bytes, so it is computed once and then copied, eight bytes at a time.
var presieveGroups = [...][]uint64{
	{7, 11, 13}, {17, 19}, {23, 29}, {31, 37}, {41, 43}, {47, 53}, {59, 61}, {67, 71},
}

// presieved is the largest prime in presieveGroups.
const presieved = 71

// chunk is how many bytes of the patterns are copied at a time.
const chunk = 2 << 10

// pattern is what a group of primes crosses out. It repeats without end.
type pattern struct {
	period uint64
	bits   []byte // one period, and a chunk more, so that no chunk has to begin again at its start
}

func newPatterns() [len(presieveGroups)]pattern {
	var out [len(presieveGroups)]pattern
	for i, group := range presieveGroups {
		out[i] = newPattern(group)
	}
	return out
}

func newPattern(group []uint64) pattern {
	period := uint64(1)
	for _, p := range group {
		period *= p
	}
	bits := make([]byte, period+chunk)
	for _, p := range group {
		for bit, at := range firstMultiples(p) {
			for i := at % p; i < uint64(len(bits)); i += p {
				bits[i] |= 1 << bit
			}
		}
	}
	return pattern{period: period, bits: bits}
}

// from returns the pattern's chunk that begins at a byte of the number line.
func (p *pattern) from(at uint64) *[chunk]byte {
	return (*[chunk]byte)(p.bits[at%p.period:])
}

// presieve writes a segment that begins at byte low, in which the multiples of the presieved primes are crossed out,
// the primes themselves included.
func presieve(segment []byte, low uint64, patterns *[len(presieveGroups)]pattern) {
	var last [chunk]byte
	for len(segment) > 0 {
		target := &last
		if len(segment) >= chunk {
			target = (*[chunk]byte)(segment)
		}
		merge(target, [len(presieveGroups)]*[chunk]byte{
			patterns[0].from(low), patterns[1].from(low), patterns[2].from(low), patterns[3].from(low),
			patterns[4].from(low), patterns[5].from(low), patterns[6].from(low), patterns[7].from(low),
		})
		if target == &last {
			copy(segment, last[:])
			return
		}
		segment, low = segment[chunk:], low+chunk
	}
}

// merge sets target to the union of chunks. The slices are of the same arrays: with them, the compiler looks whether a
// pointer is nil before the loop and not in each step.
func merge(target *[chunk]byte, chunks [len(presieveGroups)]*[chunk]byte) {
	to, a, b, c, d := target[:], chunks[0][:], chunks[1][:], chunks[2][:], chunks[3][:]
	e, f, g, h := chunks[4][:], chunks[5][:], chunks[6][:], chunks[7][:]
	for i := 0; i <= chunk-8; i += 8 {
		put(to, i, get(a, i)|get(b, i)|get(c, i)|get(d, i)|get(e, i)|get(f, i)|get(g, i)|get(h, i))
	}
}

func get(b []byte, i int) uint64    { return binary.LittleEndian.Uint64(b[i : i+8]) }
func put(b []byte, i int, v uint64) { binary.LittleEndian.PutUint64(b[i:i+8], v) }
