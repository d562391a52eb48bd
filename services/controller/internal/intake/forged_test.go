package intake_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/message"
	"cloudmaster/services/controller/internal/intake"
)

// TestForgedMessages: where the broker knows who sends, what somebody says in the name of an instance is counted and
// told, and changes nothing. Where it does not, the instance is believed by its name.
func TestForgedMessages(t *testing.T) {
	t.Parallel()
	for sender, verified := range map[string]bool{"i-2": true, "": true, "i-1": true, "somebody": false} {
		t.Run(sender, func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				b.Intake = intake.New(b.broker, b.roster, intake.Options{
					Pool: "fib", Parse: message.ParseStd, Now: time.Now, Wait: time.Second, Verified: verified,
					Changed: func() { b.changed++ },
				})
				b.lookFor(5 * time.Second)
				before := b.roster.Instances(time.Now())
				b.broker.sender, b.changed = sender, 0
				b.say(1, 0.5)
				said := b.look()
				after := b.roster.Instances(time.Now())
				if !verified || sender == "i-1" {
					if said.Outcomes["accepted"] != 1 || after[0].Load != 0.5 || b.changed != 1 {
						t.Errorf("got %+v and %+v, want it believed", said, after)
					}
					return
				}
				want := fmt.Sprintf("names the instance i-1, and the broker says that its sender is %q", sender)
				if said.Outcomes["forged"] != 1 || len(said.Garbage) != 1 || b.changed != 0 ||
					!strings.Contains(said.Garbage[0].Err.Error(), want) {
					t.Errorf("got %+v and %d changes, want it forged", said, b.changed)
				}
				if !reflect.DeepEqual(before, after) {
					t.Errorf("got %+v, want what it was before: %+v", after, before)
				}
				if len(b.queue.Bodies()) > 0 {
					t.Error("it is still on the queue")
				}
			})
		})
	}
}
