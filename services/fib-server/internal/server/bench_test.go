package server_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"cloudmaster/services/fib-server/internal/server"
)

const firstNumbers = 1000

// BenchmarkFirstNumbers is one client that asks as fast as it can for the first
// 1,000 numbers, of this server and, in turn, of a bare line-echo server on the same
// loopback. "ratio" is its rate over the echo's, both from their best times.
func BenchmarkFirstNumbers(b *testing.B) {
	for name, ask := range map[string]func(*client) error{"request-response": askOneByOne, "pipelined": askAtOnce} {
		b.Run("mode="+name, func(b *testing.B) {
			fib, echo := startFib(b), startEcho(b)
			ours, theirs := time.Hour, time.Hour
			for b.Loop() {
				ours = min(ours, timeToAsk(b, fib, ask))
				theirs = min(theirs, timeToAsk(b, echo, ask))
			}
			b.ReportMetric(firstNumbers/ours.Seconds(), "lines/s")
			b.ReportMetric(firstNumbers/theirs.Seconds(), "echo-lines/s")
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
		})
	}
}

// timeToAsk leaves connecting out: it costs both the same.
func timeToAsk(b *testing.B, l net.Listener, ask func(*client) error) time.Duration {
	b.Helper()
	c := dial(b, l)
	start := time.Now()
	if err := ask(c); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	_ = c.Close()
	return took
}

func askOneByOne(c *client) error {
	ask := []byte("\n")
	for range firstNumbers {
		if _, err := c.Write(ask); err != nil {
			return err
		}
		if _, err := c.r.ReadSlice('\n'); err != nil {
			return err
		}
	}
	return nil
}

func askAtOnce(c *client) error {
	all := make([]byte, firstNumbers)
	for i := range all {
		all[i] = '\n'
	}
	if _, err := c.Write(all); err != nil {
		return err
	}
	for range firstNumbers {
		if _, err := c.r.ReadSlice('\n'); err != nil {
			return err
		}
	}
	return nil
}

func startFib(tb testing.TB) net.Listener {
	tb.Helper()
	l := listen(tb)
	serve(tb, mustNew(tb, server.Options{}), l)
	return l
}

// startEcho runs what anyone would write for a line echo: buffered, and flushed
// when no more input is at hand.
func startEcho(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	tb.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				wg.Go(func() { echo(conn) })
			}
		}
	})
	return l
}

func echo(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r, w := bufio.NewReader(conn), bufio.NewWriter(conn)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err := w.Write(line); err != nil {
			return
		}
		if r.Buffered() == 0 {
			if err := w.Flush(); err != nil {
				return
			}
		}
	}
}
