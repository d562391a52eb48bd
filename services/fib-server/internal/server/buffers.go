package server

import "sync"

// keepSize is the largest buffer that is kept for reuse. A long number takes more, and
// its buffer goes back to the collector with it.
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
