package report

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"cloudmaster/services/controller/internal/record"
)

// Console writes lines of time, pool and text.
type Console struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// NewConsole returns a sink that writes to w.
func NewConsole(w io.Writer) *Console { return &Console{w: w} }

// Pass writes the lines of a pass. Errors are ignored, because a console that is gone is no reason to stop.
func (c *Console) Pass(_ context.Context, r *record.Record) { c.write(Events(r)) }

// Intake writes the messages of instances for the operator.
func (c *Console) Intake(_ context.Context, in *record.Intake) { c.write(Sayings(in)) }

func (c *Console) write(events []Event) {
	if len(events) == 0 {
		return
	}
	var b strings.Builder
	for i := range events {
		for _, line := range events[i].Lines() {
			fmt.Fprintf(&b, "%s %s %s\n", events[i].At.Format("Jan 02 15:04:05"), events[i].Pool, line)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprint(c.w, b.String())
}
