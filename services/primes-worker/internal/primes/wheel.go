package primes

// wheel is the number of numbers that one byte stands for.
const wheel = 30

// wheelPrimes are the primes that the wheel leaves out.
var wheelPrimes = [...]uint64{2, 3, 5}

// residues are the numbers below 30 that 2, 3 and 5 do not divide: bit k of
// byte b stands for 30·b + residues[k].
var residues = [8]uint64{1, 7, 11, 13, 17, 19, 23, 29}

// bitOf is the inverse of residues.
var bitOf = [wheel]uint8{1: 0, 7: 1, 11: 2, 13: 3, 17: 4, 19: 5, 23: 6, 29: 7}

// place returns where a number that 2, 3 and 5 do not divide has its bit.
func place(number uint64) (at uint64, bit uint8) {
	return number / wheel, bitOf[number%wheel]
}

// firstMultiples returns, for each bit, the byte of the first multiple of p, from p² on, that has this bit. Further
// multiples with the same bit follow every p bytes.
func firstMultiples(p uint64) (at [8]uint64) {
	factor := p
	for range at {
		b, bit := place(factor * p)
		at[bit] = b
		factor = nextOnWheel(factor)
	}
	return at
}

// nextOnWheel returns the next number after number that 2, 3 and 5 do not divide; they must not divide number either.
func nextOnWheel(number uint64) uint64 {
	bit := bitOf[number%wheel]
	if bit == 7 {
		return number + 2
	}
	return number + residues[bit+1] - residues[bit]
}

// oddPrimes returns the odd primes above least and up to limit, with a sieve that is not segmented.
func oddPrimes(least, limit uint64) []uint64 {
	composite := make([]bool, limit/2+1) // index i stands for 2i+1
	var out []uint64
	for i := uint64(1); 2*i+1 <= limit; i++ {
		if composite[i] {
			continue
		}
		p := 2*i + 1
		if p > least {
			out = append(out, p)
		}
		for j := p * p / 2; j < uint64(len(composite)); j += p {
			composite[j] = true
		}
	}
	return out
}
