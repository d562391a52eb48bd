package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The program runs as a process of its own, with its own signals and exit code.
func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"allocator": main}) }

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: freePorts,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"http":    httpCommand,
			"waitlog": waitLog,
		},
	})
}

// freePorts sets ADDR and OPS to addresses that are free, and NOBROKER to one where nobody
// listens; TAKEN is in use until the script ends.
func freePorts(env *testscript.Env) error {
	for _, name := range []string{"ADDR", "OPS", "NOBROKER", "TAKEN"} {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		env.Setenv(name, l.Addr().String())
		if name == "TAKEN" {
			env.Defer(func() { _ = l.Close() })
			continue
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

const patience = 20 * time.Second

// httpCommand is "http METHOD URL": it writes status and body to the file
// "answer", and waits for a server that is not up yet.
func httpCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: http METHOD URL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for tick := time.Tick(10 * time.Millisecond); ; <-tick {
		answer, err := request(ctx, args[0], args[1])
		if err == nil {
			ts.Check(os.WriteFile(ts.MkAbs("answer"), []byte(answer), 0o600))
			return
		}
		if ctx.Err() != nil {
			ts.Fatalf("%s %s: %v", args[0], args[1], err)
		}
	}
}

func request(ctx context.Context, method, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d\n%s", resp.StatusCode, body), errors.Join(err, resp.Body.Close())
}

// waitLog is "waitlog FILE TEXT": it waits until a file of log lines has one with this message.
func waitLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitlog FILE TEXT")
	}
	deadline := time.Now().Add(patience)
	for tick := time.Tick(10 * time.Millisecond); ; <-tick {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && hasMessage(string(data), args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s has no line with the message %q (%v):\n%s", args[0], args[1], err, data)
		}
	}
}

func hasMessage(log, text string) bool {
	for line := range strings.Lines(log) {
		var entry struct {
			Msg string `json:"msg"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && strings.Contains(entry.Msg, text) {
			return true
		}
	}
	return false
}
