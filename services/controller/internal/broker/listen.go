package broker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
)

// probe returns an error if nobody can listen on address. Its text is for the operator.
func probe(ctx context.Context, address string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("broker: %s is taken by %s; stop that or choose another listen address", address,
			occupant(ctx, address))
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("broker: listen on %s: %w; choose a port above 1023", address, err)
	case err != nil:
		return fmt.Errorf("broker: listen: %w; choose another listen address", err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("broker: listen on %s: %w", address, err)
	}
	return nil
}

// occupant returns a description of the program that listens on address. A NATS server can be named, because
// it sends its name to everybody who connects.
func occupant(ctx context.Context, address string) string {
	const patience = time.Second
	dialer := net.Dialer{Timeout: patience}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "another program"
	}
	defer func() { _ = c.Close() }() // nothing was written that could be lost
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "another program"
	}
	line, err := bufio.NewReaderSize(c, 4096).ReadString('\n')
	if err != nil {
		return "another program"
	}
	return describe(line)
}

// describe returns a description of the server that sends line as its first line.
func describe(line string) string {
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "INFO ")
	var info struct {
		Name string `json:"server_name"`
	}
	if !ok || json.Unmarshal([]byte(text), &info) != nil {
		return "another program"
	}
	if pid, ok := strings.CutPrefix(info.Name, namePrefix); ok {
		return "the broker of another controller, process " + pid
	}
	return fmt.Sprintf("another NATS server, %q", info.Name)
}
