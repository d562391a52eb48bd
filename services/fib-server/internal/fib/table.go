package fib

import "slices"

// Table is the first numbers of the sequence in decimal, computed once for all clients, which all begin there. It may
// be used concurrently.
type Table struct {
	text []byte
	ends []int // of each number's digits in text
	last Sequence
}

// NewTable returns the table of the first n numbers.
func NewTable(n int) *Table {
	t := &Table{ends: make([]int, n)}
	for i := range t.ends {
		t.last.Next()
		t.text = t.last.Append(t.text)
		t.ends[i] = len(t.text)
	}
	return t
}

// Len returns how many numbers the table holds.
func (t *Table) Len() int { return len(t.ends) }

// Append appends the i-th number in decimal to dst; the first is number 0.
func (t *Table) Append(dst []byte, i int) []byte {
	from := 0
	if i > 0 {
		from = t.ends[i-1]
	}
	return append(dst, t.text[from:t.ends[i]]...)
}

// Rest returns a sequence of its own that stands at the table's last number.
func (t *Table) Rest() Sequence {
	return Sequence{cur: slices.Clone(t.last.cur), prev: slices.Clone(t.last.prev)}
}
