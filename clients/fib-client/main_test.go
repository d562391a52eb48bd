package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fib-client": main})
}

// TestScripts runs the command lines of testdata/script. Beside testscript's own commands
// they have
//
//	exits CODE COMMAND…   runs a command that must exit with that code
//	awaited               returns when somebody has asked for a server of the pool later
//
// and the variables SERVER, the address of a fib server; FULL, of one that is full;
// DYING, of an allocator whose servers die after three numbers; ALLOCATOR, of one that
// sends clients to SERVER from the pool fib and has no server in the pools empty and later;
// and GONE, an address where nobody listens.
func TestScripts(t *testing.T) {
	server := fibServer(t, func(n int) string { return numbers[n%len(numbers)] })
	full := fibServer(t, func(int) string { return "error: server full" })
	dying := fibServer(t, func(n int) string {
		if n == 3 {
			return ""
		}
		return numbers[n]
	})
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	asked := make(chan struct{}, 1)
	vars := map[string]string{
		"SERVER": server, "FULL": full, "GONE": gone.Addr().String(),
		"ALLOCATOR": allocator(t, server, asked), "DYING": allocator(t, dying, nil),
	}
	// A group, so that the servers outlive the parallel scripts.
	t.Run("group", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir:                 "testdata/script",
			RequireExplicitExec: true,
			Setup: func(env *testscript.Env) error {
				for name, value := range vars {
					env.Setenv(name, value)
				}
				return nil
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"exits":   exits,
				"awaited": func(*testscript.TestScript, bool, []string) { <-asked },
			},
		})
	})
}

var numbers = []string{"1", "1", "2", "3", "5", "8", "13", "21", "34", "55"}

// fibServer answers the n-th line of each connection with answer(n), and hangs up for "".
func fibServer(t *testing.T, answer func(n int) string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				lines := bufio.NewScanner(conn)
				for n := 0; lines.Scan() && lines.Text() != "quit"; n++ {
					text := answer(n)
					if text == "" {
						return
					}
					fmt.Fprintln(conn, text)
				}
			})
		}
	})
	return l.Addr().String()
}

// allocator says on asked that somebody wants a server of the pool later.
func allocator(t *testing.T, server string, asked chan<- struct{}) (url string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/pools/fib/allocations", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"id":"i-1","address":%q,"load_estimate":0.1}`, server)
	})
	none := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"status":503,"detail":"no servers are running, try again in a minute"}`)
	}
	mux.HandleFunc("POST /v1/pools/empty/allocations", none)
	mux.HandleFunc("POST /v1/pools/later/allocations", func(w http.ResponseWriter, r *http.Request) {
		none(w, r)
		asked <- struct{}{}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
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
