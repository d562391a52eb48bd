package worker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/primes-worker/internal/worker"
)

// TestStopWhileStatusesAreNotTakenDoesNoJobTwice: the status queue takes nothing for less than the visibility timeout
// when a worker is told to stop. A job whose result may yet be stored is not handed back.
func TestStopWhileStatusesAreNotTakenDoesNoJobTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		jobs := memqueue.New("work", queue.Limits{Visibility: 30 * time.Second})
		status := memqueue.New("status", queue.Limits{})
		if err := jobs.Send(t.Context(), []byte("1|5")); err != nil {
			t.Fatal(err)
		}
		stop := beside(t, jobs, status)
		wait(4 * time.Second) // in the middle of the job
		status.FailAfter(memqueue.OpSend, 0, errAway)
		time.AfterFunc(22*time.Second, status.Heal)
		stop()
		stop = beside(t, jobs, status)
		wait(time.Minute)
		stop()
		if got := strings.Count(strings.Join(status.Bodies(), "\n"), "Processed: 1 5"); got != 1 {
			t.Errorf("got %d results of one job:\n%s", got, strings.Join(status.Bodies(), "\n"))
		}
	})
}

// beside runs a worker and its agent as the program does, until stop has returned.
func beside(t *testing.T, jobs, status *memqueue.Queue) (stop func()) {
	t.Helper()
	speaker := agent.New(status, "i-x", agent.Options{})
	w, err := worker.New(jobs, speaker, (&sieve{}).nth, worker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		speaks, silence := context.WithCancel(context.WithoutCancel(ctx))
		silent := make(chan struct{})
		go func() {
			_ = speaker.Run(speaks)
			close(silent)
		}()
		_ = w.Run(ctx)
		silence()
		<-silent
	}()
	return func() {
		cancel()
		<-ended
	}
}
