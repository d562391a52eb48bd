package main

import (
	"bufio"
	"errors"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fib-server": main})
}

// TestScripts runs the command lines of testdata/script. Beside testscript's own commands
// they have
//
//	ask ADDRESS LINE ANSWER…   connects, waiting for the server to be there, sends LINE
//	                           once per answer and compares
//	exits CODE COMMAND…        runs a command that must exit with that code
//
// and the variable ADDR, an address that is free.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Setenv("ADDR", l.Addr().String())
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true") // the tests may themselves run on EC2
			return l.Close()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ask": ask, "exits": exits},
	})
}

const patience = 20 * time.Second

func ask(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: ask address line answer...")
	}
	conn := connect(ts, args[0])
	defer func() { _ = conn.Close() }()
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	r := bufio.NewReader(conn)
	for _, want := range args[2:] {
		_, err := conn.Write([]byte(args[1] + "\n"))
		ts.Check(err)
		got, err := r.ReadString('\n')
		if err != nil || strings.TrimSuffix(got, "\n") != want {
			ts.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
}

// connect tries until the server is there.
func connect(ts *testscript.TestScript, address string) net.Conn {
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	over := time.After(patience)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn
		}
		select {
		case <-retry.C:
		case <-over:
			ts.Fatalf("no server at %s: %v", address, err)
		}
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command...")
	}
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](ts.Exec(args[1], args[2:]...)); ok {
		got = exit.ExitCode()
	}
	if want := args[0]; strconv.Itoa(got) != want {
		ts.Fatalf("got exit code %d, want %s", got, want)
	}
}
