// Package fib steps through the Fibonacci numbers 1, 1, 2, 3, 5, … and writes
// them in decimal. Both cost time in proportion to the number of digits, however
// long the numbers get; converting a binary number to decimal would not.
//
// # Representation
//
// A number is kept as its decimal digits, eight to a word, one byte each with a value from 0 to 9. Only '0' has to be
// added to each byte to get the text, so writing is hardly more than copying. And eight digits are added by one 64-bit
// addition, because a bias of 0xF6 per byte (256 − 10) makes a sum of ten or more overflow into the next byte exactly
// as a decimal carry must.
package fib

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

const (
	wordDigits = 8
	zeros      = 0x3030303030303030 // '0' in every byte
	bias       = 0xF6F6F6F6F6F6F6F6 // 256 − 10 in every byte
	ones       = 0x0101010101010101
)

// Sequence is a place in the sequence of Fibonacci numbers. The zero value stands
// before the first. It is not safe for concurrent use.
//
// It holds two numbers, so about two bytes of memory per digit.
type Sequence struct {
	cur, prev []uint64 // eight digits per word, least significant first; no zero word on top
}

// Next moves on to the next number.
func (s *Sequence) Next() {
	if len(s.cur) == 0 {
		s.cur, s.prev = []uint64{1}, []uint64{0}
		return
	}
	// The sum takes the place of the older number, so a step allocates only
	// when the number outgrows its slice.
	if len(s.prev) < len(s.cur) {
		s.prev = append(s.prev, 0) // consecutive numbers differ by one word at most
	}
	if carry := add(s.prev, s.cur); carry != 0 {
		s.prev = append(s.prev, carry)
	}
	s.cur, s.prev = s.prev, s.cur
}

// add adds b to a, which are equally long, and returns the carry.
func add(a, b []uint64) (carry uint64) {
	b = b[:len(a)]
	for i, x := range a {
		sum, overflow := bits.Add64(x+bias, b[i], carry)
		// Bytes that did not overflow still hold the bias: 0xF6 to 0xFF, the others 0 to 9.
		kept := sum >> 7 & ones
		a[i] = sum - kept*0xF6
		carry = overflow
	}
	return carry
}

// Append appends the number in decimal to dst; 0 before the first Next.
func (s *Sequence) Append(dst []byte) []byte {
	if len(s.cur) == 0 {
		return append(dst, '0')
	}
	rest := s.cur[:len(s.cur)-1]
	top := s.cur[len(rest)]
	var word [wordDigits]byte
	binary.BigEndian.PutUint64(word[:], top|zeros)
	dst = append(dst, word[bits.LeadingZeros64(top)/8:]...)

	n := len(dst)
	dst = slices.Grow(dst, len(rest)*wordDigits)[:n+len(rest)*wordDigits]
	for i := len(rest) - 1; i >= 0; i-- {
		binary.BigEndian.PutUint64(dst[n:], rest[i]|zeros)
		n += wordDigits
	}
	return dst
}

// Digits returns how many digits Append writes.
func (s *Sequence) Digits() int {
	if len(s.cur) == 0 {
		return 1
	}
	top := len(s.cur) - 1
	return (top+1)*wordDigits - bits.LeadingZeros64(s.cur[top])/8
}
