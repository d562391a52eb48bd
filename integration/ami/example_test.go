package ami

import (
	"testing"

	"cloudmaster/internal/message"
)

// TestExample: an image of the user's own, made as deploy/ami/README.md says, boots and reports.
func TestExample(t *testing.T) {
	needImage(t, "example")
	w := onNATS(t)
	w.powerOn()
	any := func(message.Status) bool { return true }
	w.until("the guest reports", func() bool {
		_, ok := w.heard.status(0, any)
		return ok
	})
	w.wantEC2()
	w.pressPower()
	w.wantOff()
	w.wantStoppedWell()
}
