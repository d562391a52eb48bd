package server

import "sync"

// keepSize is the largest buffer that is kept for reuse. Buffers that have grown larger, for long numbers, are left to
// the garbage collector.
const keepSize = 4 * flushSize

// buffers lends buffers for answers. The zero value works.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return buf
	}
	return new([]byte)
}

func (b *buffers) put(buf *[]byte) {
	if cap(*buf) > keepSize {
		return
	}
	*buf = (*buf)[:0]
	b.pool.Put(buf)
}
