package loop_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
)

const journalKey = "controller/launch/test"

// journalDoc is the content of the journal as docs/formats.md describes it.
type journalDoc struct {
	Launches []journalEntry `json:"launches"`
}

type journalEntry struct {
	Token string    `json:"token"`
	Count int       `json:"count"`
	At    time.Time `json:"at"`
}

func (b *bench) journal() (doc journalDoc) {
	b.t.Helper()
	o, err := b.store.Get(b.t.Context(), journalKey, "")
	if err == nil {
		err = json.Unmarshal(o.Data, &doc)
	}
	b.noError(err)
	return doc
}

func (b *bench) writeJournal(text string) {
	b.t.Helper()
	_, err := b.store.Put(b.t.Context(), journalKey, []byte(text), blob.Any)
	b.noError(err)
}

// TestSuccessorDoesNotLaunchWhatListsDoNotShow checks that a controller that starts soon after a launch of
// another one waits until lists show what was launched.
func TestSuccessorDoesNotLaunchWhatListsDoNotShow(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 5 * time.Second, 29 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			bubble(t, fixedPool(2, 6), func(b *bench) {
				b.pass(time.Second)
				b.wantLaunched(2)
				b.stopController()
				b.pass(after)
				b.startController()
				b.pass(10 * time.Minute)
				b.wantLaunched(2)
				if got := b.log.count("launches wait"); got != 1 {
					t.Errorf("got %d lines about the wait, want 1", got)
				}
			}, listsLate(31*time.Second))
		})
	}
}

// TestSuccessorKnowsOfAllLaunches checks that the journal has all launches that lists may not show, and not
// only the last one.
func TestSuccessorKnowsOfAllLaunches(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.StartLimit, cfg.PolicyInterval = 1, 5*time.Second
	bubble(t, cfg, func(b *bench) {
		b.send(6) // three instances, one after the other
		b.pass(6 * time.Second)
		if n := b.launched(); n != 2 || len(b.journal().Launches) != n {
			b.t.Fatalf("got %d launched and %+v in the journal, want 2 of each", n, b.journal())
		}
		b.restartController()
		b.pass(10 * time.Minute)
		b.wantLaunched(3)
	}, listsLate(30*time.Second), bootsIn(time.Hour))
}

// TestWaitingLaunchesGoOnInTime checks that launches that wait for an earlier one go on, at the latest,
// when lists would show what it has started. Requests stay pending until then.
func TestWaitingLaunchesGoOnInTime(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"of nothing":      `{"launches":[{"token":"x-1","count":1,"at":"2000-01-01T00:00:00Z"}]}`,
		"from the future": `{"launches":[{"token":"x-1","count":1,"at":"2099-01-01T00:00:00Z"}]}`,
		"two, one of old": `{"launches":[{"token":"x-1","count":1,"at":"1999-01-01T00:00:00Z"},` +
			`{"token":"x-2","count":2,"at":"2000-01-01T00:00:00Z"}]}`,
		"the damaged kind": `{"laun`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, fibPool(), func(b *bench) {
				b.stopController()
				b.listLag, b.audit = 40*time.Second, time.Hour
				b.writeJournal(doc)
				b.startController()
				b.send(8)
				b.pass(69 * time.Second)
				b.wantLaunched(0)
				b.pass(3 * time.Second)
				b.wantLaunched(2)
				if got := b.tap.times("cloud.list"); got > 10 {
					t.Errorf("got %d lists, want few", got)
				}
			})
		})
	}
}

// TestLaunchesGoOnWhenListsShowThem checks that waiting launches go on as soon as a list shows what the
// earlier one has started.
func TestLaunchesGoOnWhenListsShowThem(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(0, 4), func(b *bench) {
		b.stopController()
		b.pass(time.Second)
		_, err := b.account.Cloud("test").Launch(t.Context(), cloud.Spec{
			Token: "x-1", Count: 1, Image: "image",
			Tags: map[string]string{cloud.TagPool: "test", cloud.TagLaunch: "x-1"},
		})
		b.noError(err)
		b.writeJournal(fmt.Sprintf(`{"launches":[{"token":"x-1","count":1,"at":%q}]}`,
			time.Now().Format(time.RFC3339Nano)))
		b.cfg.Minimum = 3
		b.startController()
		b.pass(25 * time.Second)
		b.wantLaunched(1)
		b.pass(20 * time.Second)
		b.wantLaunched(3)
	}, listsLate(30*time.Second))
}

// TestJournalIsWrittenFirst checks that nothing is launched while the journal cannot be written. A journal
// that cannot be read may name any launch, so launches wait.
func TestJournalIsWrittenFirst(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		op   string
		lost int
	}{
		"cannot be written": {op: "store.journal"}, "cannot be read": {op: "store.get"},
		"answers are lost": {lost: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, fixedPool(0, 4), func(b *bench) {
				b.stopController()
				b.cfg.Minimum = 2
				if c.op != "" {
					b.tap.breakDown(c.op, errAway)
				}
				b.tap.loseAnswers("store.journal", c.lost)
				b.startController()
				if c.op != "" {
					b.pass(10 * time.Minute)
					b.wantLaunched(0)
				}
				if c.op != "" {
					b.tap.heal()
				}
				b.pass(30 * time.Second)
				b.wantLaunched(2)
				if got := len(b.journal().Launches); got != 1 {
					t.Errorf("got %+v, want the one launch that was asked for", b.journal())
				}
			})
		})
	}
}

// TestAReplacedControllerCannotLaunch checks that a controller cannot write the journal, and so cannot
// launch, after the controller that replaced it has written it.
func TestAReplacedControllerCannotLaunch(t *testing.T) {
	t.Parallel()
	bubble(t, jobPool(), func(b *bench) {
		b.pass(time.Second)
		b.writeJournal(fmt.Sprintf(`{"launches":[{"token":"x-1","count":1,"at":%q}]}`,
			time.Now().Format(time.RFC3339Nano)))
		b.send(4)
		b.pass(time.Minute)
		b.wantLaunched(0)
	})
}

// TestJournalCostsOneWriteALaunch checks that a launch costs one write of the journal, and none on a cloud
// whose lists are current.
func TestJournalCostsOneWriteALaunch(t *testing.T) {
	t.Parallel()
	for lag, want := range map[time.Duration]int{time.Second: 0, 0: 1, 30 * time.Second: 1} {
		t.Run(lag.String(), func(t *testing.T) {
			t.Parallel()
			bubble(t, jobPool(), func(b *bench) {
				b.stopController()
				b.listLag = lag
				b.startController()
				b.send(4)
				b.grow(2)
				if got := b.tap.times("store.journal"); got != want {
					t.Errorf("got %d writes, want %d", got, want)
				}
				for _, in := range b.account.Instances() {
					if tag := in.Tags[cloud.TagLaunch]; tag != b.token() {
						t.Errorf("got tag %q, want the launch's token %q", tag, b.token())
					}
				}
			})
		})
	}
}

// token returns the token of the first launch.
func (b *bench) token() string {
	for _, c := range b.account.Calls() {
		if c.Op == memcloud.OpLaunch {
			return c.Token
		}
	}
	return ""
}
