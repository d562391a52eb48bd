package agent_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/agent"
)

// fakeCloud is the metadata of a machine.
type fakeCloud struct {
	elsewhere bool // not a cloud's machine: nobody may ask
	host, doc string

	mu     sync.Mutex
	away   int    // guarded by mu; questions that fail before all goes well
	notice string // guarded by mu
	asked  int    // guarded by mu
}

var errNoAnswer = errors.New("no route to 169.254.169.254")

func (f *fakeCloud) OnEC2() bool { return !f.elsewhere }

func (f *fakeCloud) answer(ctx context.Context, text string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case f.away > 0:
		f.away--
		return "", errNoAnswer
	}
	return text, nil
}

func (f *fakeCloud) InstanceID(ctx context.Context) (string, error) { return f.answer(ctx, "i-0cloud") }

func (f *fakeCloud) Host(ctx context.Context, private bool) (string, error) {
	if private {
		return f.answer(ctx, "10.0.0.1")
	}
	return f.answer(ctx, f.host)
}

func (f *fakeCloud) UserData(ctx context.Context) ([]byte, error) {
	doc, err := f.answer(ctx, f.doc)
	return []byte(doc), err
}

func (f *fakeCloud) Interruption(ctx context.Context) (string, error) {
	f.mu.Lock()
	notice := f.notice
	f.mu.Unlock()
	return f.answer(ctx, notice)
}

func (f *fakeCloud) questions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *fakeCloud) announce(notice string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notice = notice
}

// noEnvironment unsets the user data of the environment for the test.
func noEnvironment(t *testing.T) {
	t.Helper()
	t.Setenv(agent.EnvUserData, "") // restores the environment afterwards
	if err := os.Unsetenv(agent.EnvUserData); err != nil {
		t.Fatal(err)
	}
}

func TestIdentifyByMetadata(t *testing.T) {
	noEnvironment(t)
	want := sampleUserData()
	want.InstanceID, want.Host = "i-0cloud", "ec2-1.example.org"
	for name, doc := range map[string]string{
		"without an id": strings.Replace(goldenUserData, "instance_id: i-0abc\n", "", 1),
		"another's id":  goldenUserData,
	} {
		got, err := agent.Identify(t.Context(), &fakeCloud{doc: doc, host: "ec2-1.example.org"})
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: got error %v and (-want +got):\n%s", name, err, diff)
		}
	}
}

// TestIdentifyTakesTheAddressThatClientsReach: the controller says which of the machine's two it is.
func TestIdentifyTakesTheAddressThatClientsReach(t *testing.T) {
	noEnvironment(t)
	for line, want := range map[string]string{
		"": "ec2-1.example.org", "address: public\n": "ec2-1.example.org", "address: private\n": "10.0.0.1",
	} {
		got, err := agent.Identify(t.Context(), &fakeCloud{doc: goldenUserData + line, host: "ec2-1.example.org"})
		if err != nil || got.Host != want {
			t.Errorf("%q: got %q, %v, want %q", line, got.Host, err, want)
		}
	}
	_, err := agent.Identify(t.Context(), &fakeCloud{doc: goldenUserData + "address: home\n", host: "h"})
	if err == nil || !strings.Contains(err.Error(), `address is "home", neither private nor public`) {
		t.Errorf("got %v, want the address refused", err)
	}
}

func TestTheEnvironmentIsBeforeTheMetadata(t *testing.T) {
	t.Setenv(agent.EnvUserData, goldenUserData)
	cloud := &fakeCloud{doc: "pool: other", host: "h"}
	got, err := agent.Identify(t.Context(), cloud)
	if diff := cmp.Diff(sampleUserData(), got); err != nil || diff != "" || cloud.questions() != 0 {
		t.Errorf("got error %v, %d questions and (-want +got):\n%s", err, cloud.questions(), diff)
	}
}

func TestIdentifyByMetadataRefuses(t *testing.T) {
	noEnvironment(t)
	for name, c := range map[string]struct {
		doc, want string
		none      bool
	}{
		"none": {"", "CLOUDMASTER_USER_DATA is not set, and instance i-0cloud was launched without", true},
		"too large": {
			strings.Repeat("#", agent.MaxUserData+1),
			"instance i-0cloud: user data: 16385 bytes, the most is 16384; to run by hand", false,
		},
		"a script": {"#!/bin/sh\nreboot\n", "instance i-0cloud: user data: yaml:", false},
		"garbage":  {"\x00\xff", "user data: yaml:", false},
		"no queue": {"pool: fib\nbackend: aws://\n", "user data: missing: queues.status", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := agent.Identify(t.Context(), &fakeCloud{doc: c.doc})
			wantError(t, err, c.want)
			if errors.Is(err, agent.ErrNoUserData) != c.none || got.InstanceID != "" {
				t.Errorf("got %+v, %v, want nothing, and ErrNoUserData: %t", got, err, c.none)
			}
		})
	}
}

func TestNobodyIsAskedOffTheCloud(t *testing.T) {
	noEnvironment(t)
	cloud := &fakeCloud{elsewhere: true, doc: goldenUserData}
	if _, err := agent.Identify(t.Context(), cloud); !errors.Is(err, agent.ErrNoUserData) {
		t.Errorf("got %v, want ErrNoUserData", err)
	}
	ctx, done := agent.UntilInterrupted(t.Context(), cloud, slog.New(slog.DiscardHandler))
	done()
	if ctx.Err() != nil || cloud.questions() != 0 {
		t.Errorf("got %v and %d questions, want none", ctx.Err(), cloud.questions())
	}
	_, done = agent.UntilInterrupted(t.Context(), nil, slog.New(slog.DiscardHandler))
	done()
}

func TestMetadataThatComesLate(t *testing.T) {
	noEnvironment(t)
	synctest.Test(t, func(t *testing.T) {
		got, err := agent.Identify(t.Context(), &fakeCloud{doc: goldenUserData, away: 7})
		if err != nil || got.InstanceID != "i-0cloud" {
			t.Errorf("got %+v, %v, want an identity", got, err)
		}
	})
}

func TestMetadataThatNeverComes(t *testing.T) {
	noEnvironment(t)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		cloud := &fakeCloud{away: 1e6}
		_, err := agent.Identify(t.Context(), cloud)
		if took := time.Since(start); took != 30*time.Second || !errors.Is(err, errNoAnswer) ||
			errors.Is(err, agent.ErrNoUserData) {
			t.Errorf("got %v after %s, want no answer after 30s", err, took)
		}
		wantError(t, err, "ask the cloud for this instance's instance id: no answer to ")
		wantError(t, err, "tries in 30s: no route to 169.254.169.254; to run by hand")
		if n := cloud.questions(); n < 8 || n > 30 {
			t.Errorf("got %d questions, want them further and further apart", n)
		}
	})
}

func TestAStopEndsTheQuestions(t *testing.T) {
	noEnvironment(t)
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(2*time.Second, func() { cancel(stop) })
		start := time.Now()
		if _, err := agent.Identify(ctx, &fakeCloud{away: 1e6}); !errors.Is(err, stop) ||
			time.Since(start) != 2*time.Second {
			t.Errorf("got %v after %s, want %v after 2s", err, time.Since(start), stop)
		}
	})
}

func TestUntilInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		cloud := &fakeCloud{away: 3}
		ctx, done := agent.UntilInterrupted(t.Context(), cloud,
			slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		defer done()
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		if n := cloud.questions(); ctx.Err() != nil || n != 720 {
			t.Errorf("after an hour: got %v and %d questions, want 720", ctx.Err(), n)
		}
		cloud.announce("terminate at noon")
		time.Sleep(time.Second)
		synctest.Wait()
		if cause := context.Cause(ctx); !errors.Is(cause, agent.ErrInterrupted) ||
			!strings.Contains(cause.Error(), "terminate at noon") {
			t.Errorf("after the notice: got %v, want %v with the notice", cause, agent.ErrInterrupted)
		}
		time.Sleep(time.Minute)
		if n := cloud.questions(); n != 721 {
			t.Errorf("got %d questions, want none after the notice", n-721)
		}
		log := out.String()
		want := `level=WARN msg="the cloud takes this instance back; stopping as at a signal" ` +
			`notice="terminate at noon"`
		if strings.Count(log, "\n") != 2 || strings.Count(log, "level=DEBUG") != 1 || !strings.Contains(log, want) {
			t.Errorf("got log\n%s\nwant a line on the failures and a line on the notice", log)
		}
	})
}

func TestANoticeThatIsThereAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, done := agent.UntilInterrupted(t.Context(), &fakeCloud{notice: "stop"}, slog.New(slog.DiscardHandler))
		defer done()
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), agent.ErrInterrupted) {
			t.Errorf("got %v, want %v", context.Cause(ctx), agent.ErrInterrupted)
		}
	})
}

func TestTheWatchEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(stop, done func()){
		"with the program": func(stop, done func()) { stop(); done() },
		"when told":        func(_, done func()) { done() },
	} {
		synctest.Test(t, func(t *testing.T) {
			parent, stop := context.WithCancel(t.Context())
			defer stop()
			cloud := &fakeCloud{}
			ctx, done := agent.UntilInterrupted(parent, cloud, slog.New(slog.DiscardHandler))
			synctest.Wait()
			end(stop, done)
			cloud.announce("late")
			time.Sleep(time.Minute)
			if ctx.Err() == nil || errors.Is(context.Cause(ctx), agent.ErrInterrupted) || cloud.questions() != 1 {
				t.Errorf("%s: got %v and %d questions, want an ended context and 1", name, context.Cause(ctx),
					cloud.questions())
			}
		})
	}
}
