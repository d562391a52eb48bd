package report

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"cloudmaster/services/controller/internal/record"
)

// mostBytes is how much a console keeps that nobody has read.
const mostBytes = 1 << 20

// Console writes lines of time, pool and text. Nobody waits for whoever reads them: lines that come while too much
// is unread are lost, and their number is told.
type Console struct {
	w io.Writer // written to by one goroutine at a time

	mu      sync.Mutex
	unread  []byte        // guarded by mu
	lost    int           // lines; guarded by mu
	writing bool          // a goroutine writes, until nothing is unread; guarded by mu
	idle    chan struct{} // closed when that goroutine has ended; guarded by mu
}

// NewConsole returns a sink that writes to w.
func NewConsole(w io.Writer) *Console {
	idle := make(chan struct{})
	close(idle)
	return &Console{w: w, idle: idle}
}

// Pass writes the lines of a pass. Errors are ignored, because a console that is gone is no reason to stop.
func (c *Console) Pass(_ context.Context, r *record.Record) { c.write(Events(r)) }

// Intake writes the messages of instances for the operator.
func (c *Console) Intake(_ context.Context, in *record.Intake) { c.write(Sayings(in)) }

// Flush waits until all has been read that was written, or ctx ends.
func (c *Console) Flush(ctx context.Context) {
	c.mu.Lock()
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

func (c *Console) write(events []Event) {
	var lines []string
	for i := range events {
		for _, line := range events[i].Lines() {
			lines = append(lines, fmt.Sprintf("%s %s %s\n", events[i].At.Format("Jan 02 15:04:05"), events[i].Pool,
				line))
		}
	}
	if len(lines) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.Join(lines, "")
	if c.lost > 0 {
		text = fmt.Sprintf("(%d lines were lost: nobody read them)\n", c.lost) + text
	}
	if len(c.unread)+len(text) > mostBytes {
		c.lost += len(lines)
		return
	}
	c.lost = 0
	c.unread = append(c.unread, text...)
	if !c.writing {
		c.writing, c.idle = true, make(chan struct{})
		go c.drain(c.idle)
	}
}

// drain writes until nothing is unread.
func (c *Console) drain(idle chan struct{}) {
	defer close(idle)
	for {
		c.mu.Lock()
		text := c.unread
		c.unread = nil
		c.writing = len(text) > 0
		c.mu.Unlock()
		if len(text) == 0 {
			return
		}
		_, _ = c.w.Write(text) // a console that is gone loses them
	}
}
