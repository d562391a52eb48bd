package awssetup

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// errSky is what goes wrong.
var errSky = errors.New("the sky fell")

// threePlan has things that are done and things that are not.
func threePlan(does ...error) *plan {
	var p plan
	for i, t := range []thing{
		{verb: create, kind: kindQueue, name: "a-work"},
		{verb: keep, kind: kindBucket, name: "b"},
		{verb: use, kind: kindRole, name: "r", note: notOurs},
		{verb: change, kind: kindGroup, name: "g", note: "open tcp 80 from 10.0.0.0/8"},
		{verb: remove, kind: kindProfile, name: "p"},
	} {
		if t.verb != keep && t.verb != use {
			t.do = func(context.Context) error { return does[i] }
		}
		p.add(t)
	}
	return &p
}

func TestPlanIsPrintedAndCarriedOut(t *testing.T) {
	t.Parallel()
	p := threePlan(nil, nil, nil, nil, nil)
	var out strings.Builder
	p.print(&out)
	if err := p.carryOut(t.Context(), &out, "controller setup"); err != nil {
		t.Fatal(err)
	}
	want := `create queue a-work
keep bucket b
use role r (not made by setup)
change security group g: open tcp 80 from 10.0.0.0/8
remove instance profile p
created queue a-work
changed security group g
removed instance profile p
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if n := p.work(); n != 3 {
		t.Errorf("got %d things to do, want 3", n)
	}
}

func TestFailureNamesThingReasonAndNextStep(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := threePlan(nil, nil, nil, errSky, nil).carryOut(t.Context(), &out, "controller setup")
	want := "could not change security group g, after 1 of 3 things: the sky fell\nPut that right and run controller " +
		"setup again: it goes on from there"
	if !errors.Is(err, errSky) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := out.String(); got != "created queue a-work\n" {
		t.Errorf("got %q, want what was done, and nothing after the failure", got)
	}
}

func TestRefusalsAreListed(t *testing.T) {
	t.Parallel()
	var p plan
	if err := p.refused(); err != nil {
		t.Errorf("got %v, want nothing against an empty plan", err)
	}
	p.refuse("queue %s: wrong", "q")
	p.refuse("group %s: wrong", "g")
	if err := p.refused(); err == nil ||
		!strings.Contains(err.Error(), "nothing was changed:\nqueue q: wrong\ngroup g: wrong") {
		t.Errorf("got %v, want both", err)
	}
}

func TestAsk(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{
		"y\n": true, "yes\n": true, " Y \n": true, "y": true, "n\n": false,
		"\n": false, "": false, "yellow\n": false, "no\ny\n": false,
	} {
		var out strings.Builder
		got, err := Ask(strings.NewReader(answer), &out)(t.Context(), 9)
		if err != nil || got != want {
			t.Errorf("%q: got %t, %v, want %t", answer, got, err, want)
		}
		if said := out.String(); !strings.HasPrefix(said,
			"Remove these 9 things? Messages and objects in them are lost. [y/N] ") ||
			strings.Contains(said, "Nothing was removed") == want {
			t.Errorf("%q: said %q", answer, said)
		}
	}
	if _, err := Ask(failing{}, io.Discard)(t.Context(), 1); !errors.Is(err, errSky) {
		t.Errorf("got %v, want %v", err, errSky)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errSky)
	silent, w := io.Pipe()
	defer w.Close() //nolint:errcheck // it never fails
	if yes, err := Ask(silent, io.Discard)(ctx, 1); yes || !errors.Is(err, errSky) {
		t.Errorf("stopped while it asks: got %t, %v, want %v", yes, err, errSky)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errSky }
