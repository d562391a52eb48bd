package app_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/message"
	"cloudmaster/services/fib-server/internal/app"
)

// machine is a cloud's machine that fib-server runs on.
type machine struct {
	doc, host string
	notice    atomic.Bool // the cloud takes the machine back
}

func (*machine) OnEC2() bool                                  { return true }
func (m *machine) UserData(context.Context) ([]byte, error)   { return []byte(m.doc), nil }
func (*machine) InstanceID(context.Context) (string, error)   { return "i-0cloud", nil }
func (m *machine) Host(context.Context, bool) (string, error) { return m.host, nil }
func (m *machine) Interruption(context.Context) (string, error) {
	if m.notice.Load() {
		return "terminate at noon", nil
	}
	return "", nil
}

// onCloud takes the user data out of the environment, and makes a machine with it.
func onCloud(t *testing.T, settings map[string]any) *machine {
	t.Helper()
	userData(t, settings) // restores the environment afterwards
	m := &machine{doc: os.Getenv(agent.EnvUserData), host: "ec2-1.example.org"}
	if err := os.Unsetenv(agent.EnvUserData); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOnACloudTheMetadataSaysWhoAndWhere(t *testing.T) {
	for name, advertise := range map[string]string{"public name": "", "set": "fib.example.org:443"} {
		t.Run(name, func(t *testing.T) {
			status, program := statusQueue(t, nil)
			program.Metadata = onCloud(t, map[string]any{"listen": "127.0.0.1:0", "advertise": advertise})
			s := start(t, program)
			_, port, err := net.SplitHostPort(s.address)
			if err != nil {
				t.Fatal(err)
			}
			want := advertise
			if want == "" {
				want = net.JoinHostPort("ec2-1.example.org", port)
			}
			if got := status.wantLoad(t, 0, message.Idle); got.Address != want || got.InstanceID != "i-0cloud" {
				t.Errorf("got %s at %s, want i-0cloud at %s", got.InstanceID, got.Address, want)
			}
		})
	}
}

func TestANoticeOfTheCloudDrains(t *testing.T) {
	status, program := statusQueue(t, nil)
	m := onCloud(t, map[string]any{"listen": "127.0.0.1:0"})
	program.Metadata = m
	s := start(t, program)
	c := dial(t, s.address)
	c.ask(t, "1")
	m.notice.Store(true)
	s.wantLog(t, "the cloud takes this instance back; stopping as at a signal")
	s.wantLog(t, "serving the connected clients, taking no more")
	status.wantSaid(t, "Draining: 1 clients connected")
	c.ask(t, "1", "2")
	_ = c.Close()
	if err := s.wait(t); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// silent is a machine whose metadata nobody may ask for.
type silent struct {
	machine
	t *testing.T
}

func (s *silent) OnEC2() bool {
	s.t.Error("the metadata was asked for")
	return false
}

func TestHelpAsksNobody(t *testing.T) {
	onCloud(t, nil)
	for _, flag := range []string{"--help", "--version"} {
		err := app.Program{Metadata: &silent{t: t}}.Run(t.Context(), []string{flag}, io.Discard, io.Discard)
		if !errors.Is(err, daemon.ErrDone) {
			t.Errorf("%s: got %v, want %v", flag, err, daemon.ErrDone)
		}
	}
}

func TestACloudsMachineWithoutUserDataServes(t *testing.T) {
	m := onCloud(t, nil)
	m.doc = ""
	s := start(t, app.Program{Metadata: m}, "--listen", "127.0.0.1:0")
	line := s.wantLog(t, "nobody is told about load: this process was not started by a controller")
	if reason := fmt.Sprint(line["reason"]); !strings.Contains(reason, "instance i-0cloud was launched without") {
		t.Errorf("got reason %q, want it to name the instance", reason)
	}
	dial(t, s.address).ask(t, "1")
}
