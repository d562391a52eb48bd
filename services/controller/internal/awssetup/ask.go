package awssetup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Ask returns a Confirm that asks a person. Only y and yes are yes.
func Ask(in io.Reader, out io.Writer) func(ctx context.Context, things int) (bool, error) {
	return func(ctx context.Context, things int) (bool, error) {
		these := fmt.Sprintf("these %d things", things)
		if things == 1 {
			these = "this thing"
		}
		fmt.Fprintf(out, "Remove %s? Messages and objects in them are lost. [y/N] ", these)
		yes, err := answer(ctx, in)
		if err == nil && !yes {
			fmt.Fprintln(out, "Nothing was removed.")
		}
		return yes, err
	}
}

// answer reads a line, or gives up when ctx ends. Then the goroutine that reads stays behind, because reading
// from a terminal cannot be cancelled; the program ends soon.
func answer(ctx context.Context, in io.Reader) (bool, error) {
	type reply struct {
		line string
		err  error
	}
	came := make(chan reply, 1)
	go func() {
		line, err := bufio.NewReader(in).ReadString('\n')
		came <- reply{line, err}
	}()
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case r := <-came:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return false, fmt.Errorf("read the answer: %w", r.err)
		}
		text := strings.ToLower(strings.TrimSpace(r.line))
		return text == "y" || text == "yes", nil
	}
}
