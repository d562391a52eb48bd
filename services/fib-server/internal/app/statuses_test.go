package app_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
	"cloudmaster/services/fib-server/internal/app"
)

// statuses is the status queue as the controller reads it.
type statuses struct{ queue.Queue }

// statusQueue returns a queue and a program that reports to it; with a channel, the
// broker is away until that is closed.
func statusQueue(t *testing.T, back <-chan struct{}) (statuses, app.Program) {
	t.Helper()
	broker := membackend.New()
	q, err := broker.Ensure(t.Context(), "fib-status", queue.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	open := func(ctx context.Context, _ *url.URL, _ backend.Options) (backend.Backend, error) {
		if back == nil {
			return broker, nil
		}
		select {
		case <-back:
			return broker, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return statuses{q}, app.Program{Openers: backend.Openers{"mem": open}}
}

func userData(t *testing.T, settings map[string]any) {
	t.Helper()
	settings = maps.Clone(settings)
	if settings == nil {
		settings = make(map[string]any)
	}
	settings["late_clients"] = "0s" // tests need not wait for clients that nobody sends; flags take precedence
	doc, err := agent.UserData{
		Pool: "fib", InstanceID: "fib-1", Backend: "mem://here",
		Queues: agent.Queues{Work: "fib-work", Status: "fib-status"}, Settings: settings,
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(agent.EnvUserData, string(doc))
}

// next returns the next message that is accepted.
func (s statuses) next(t *testing.T, what string, accept func(message.Message) bool) message.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var seen []string
	for {
		list, err := s.Receive(ctx, 1, patience)
		if err != nil || len(list) == 0 {
			t.Fatalf("no status with %s came (%v), but\n%s", what, err, strings.Join(seen, "\n"))
		}
		if err := s.Delete(ctx, list[0].Receipt); err != nil {
			t.Fatal(err)
		}
		m, err := message.ParseStd(list[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		if accept(m) {
			return m
		}
		seen = append(seen, string(list[0].Body))
	}
}

func (s statuses) wantLoad(t *testing.T, load float64, activity message.Activity) message.Status {
	t.Helper()
	m := s.next(t, fmt.Sprintf("load %v, %s", load, activity), func(m message.Message) bool {
		status, ok := m.(message.Status)
		return ok && status.Load == load && status.Activity == activity
	})
	return m.(message.Status)
}

func (s statuses) wantState(t *testing.T, state string) {
	t.Helper()
	s.next(t, "state "+state, func(m message.Message) bool {
		status, ok := m.(message.Status)
		return ok && status.State == state
	})
}

func (s statuses) wantSaid(t *testing.T, text string) {
	t.Helper()
	s.next(t, text, func(m message.Message) bool {
		said, ok := m.(message.Log)
		return ok && said.Text == text
	})
}
