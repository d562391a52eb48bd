package report_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/services/controller/internal/report"
)

// TestConsoleThatNobodyReadsHoldsUpNobody: the one who writes to it goes on, and lines are lost.
func TestConsoleThatNobodyReadsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nobody, w := io.Pipe()
		console := report.NewConsole(w)
		pass, intake := shown()
		done := make(chan struct{})
		go func() {
			for range 1000 {
				console.Pass(t.Context(), pass)
				console.Intake(t.Context(), intake)
			}
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("got no line further in 10 s, want 2000 lines written or lost")
		}
		_ = nobody.Close()
		<-done
		console.Flush(t.Context())
		synctest.Wait()
	})
}

// TestConsoleTellsOfLinesThatAreLost when it is read again.
func TestConsoleTellsOfLinesThatAreLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		late, w := io.Pipe()
		console := report.NewConsole(w)
		pass, _ := shown()
		for range 2000 {
			console.Pass(t.Context(), pass)
		}
		read := make(chan string)
		go func() {
			all, _ := io.ReadAll(late)
			read <- string(all)
		}()
		console.Flush(t.Context())
		console.Pass(t.Context(), pass)
		console.Flush(t.Context())
		_ = w.Close()
		if all := <-read; !strings.Contains(all, "lines were lost") {
			t.Errorf("got %d bytes without a word of what was lost", len(all))
		}
	})
}
