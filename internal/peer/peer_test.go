package peer_test

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/peer"
)

func TestOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1:443":              "192.0.2.1/32",
		"192.0.2.1":                  "192.0.2.1/32",
		"[::ffff:192.0.2.1]:443":     "192.0.2.1/32",
		"[2001:db8:1:2:3:4:5:6]:443": "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":        "2001:db8:1:2::/64",
		"[fe80::1%eth0]:443":         "fe80::/64",
		"pipe":                       "unknown",
		"":                           "unknown",
		"host.example:443":           "unknown",
	} {
		if got := peer.Of(address).String(); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

func TestAtOnce(t *testing.T) {
	t.Parallel()
	a, one, other := peer.NewAtOnce(2), peer.Of("192.0.2.1"), peer.Of("192.0.2.2")
	for n, want := range []bool{true, true, false} {
		if got := a.Enter(one); got != want {
			t.Errorf("number %d: got %v, want two and no third", n+1, got)
		}
	}
	if !a.Enter(other) {
		t.Error("another client has nothing to do with it")
	}
	a.Leave(one)
	if !a.Enter(one) || a.Enter(one) {
		t.Error("want the one that became free, and no other")
	}
	free := peer.NewAtOnce(0)
	for range 1000 {
		if !free.Enter(one) {
			t.Fatal("there is no bound")
		}
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return now.Add(d) }
	r, one, other := peer.NewRate(60), peer.Of("192.0.2.1"), peer.Of("192.0.2.2")
	for n, c := range []struct {
		client peer.Key
		takes  int
		at     time.Time
		want   bool
	}{
		{one, 59, now, true},
		{one, 31, now, true}, // it had one left: 30 too much
		{one, 1, now, false},
		{other, 60, now, true},
		{other, 1, after(-time.Hour), false},                     // a clock that was set back gives nothing
		{other, 1, after(-time.Hour + 2*time.Second), true},      // and holds nothing back
		{one, 1, after(30 * time.Second), false},                 // what was too much has come back
		{one, 1, after(31*time.Second + time.Millisecond), true}, // one each second from then on
		{one, 1, after(31*time.Second + 2*time.Millisecond), true},
		{one, 1, after(31*time.Second + 3*time.Millisecond), false},
		{one, 100, after(time.Hour), true}, // no more than 60 come together
		{one, 1, after(time.Hour + 39*time.Second), false},
		{one, 1, after(time.Hour + 41*time.Second), true},
	} {
		if got := r.Take(c.client, c.takes, c.at); got != c.want {
			t.Errorf("step %d: %s takes %d: got %v, want %v", n, c.client, c.takes, got, c.want)
		}
	}
	free := peer.NewRate(0)
	for range 2 {
		if !free.Take(one, 1<<40, now) {
			t.Error("there is no bound")
		}
	}
}

// TestRateForgets: those that have taken nothing for a minute take no memory, and those that have are not forgotten,
// however many come.
func TestRateForgets(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r, greedy := peer.NewRate(60), peer.Of("2001:db8::")
	for n := range 300_000 {
		at := now.Add(time.Duration(n) * time.Millisecond)
		if !r.Take(peer.Of(fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255)), 1, at) {
			t.Fatalf("client %d: a stranger was refused", n)
		}
		r.Take(greedy, 600, at)
		if n%1000 == 999 && r.Take(greedy, 1, at) {
			t.Fatalf("client %d: the greedy one was forgotten", n)
		}
	}
	if got := r.Clients(); got > 130_000 {
		t.Errorf("got %d clients remembered, want about those of a minute", got)
	}
}

// TestRateSharesWhatIsLeft: the memory is bounded, also against those that have very many addresses.
func TestRateSharesWhatIsLeft(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r, refused := peer.NewRate(60), 0
	for n := range 110_000 {
		at := now.Add(time.Duration(n) * 200 * time.Microsecond) // less than a minute, in which all comes back
		if !r.Take(peer.Of(fmt.Sprintf("2001:db8:%x:%x::", n>>16, n&0xffff)), 60, at) {
			refused++
		}
	}
	if got := r.Clients(); got > 100_001 || refused < 9_000 {
		t.Errorf("got %d clients and %d refused, want 100,000 and most of the others", got, refused)
	}
	if !r.Take(peer.Of("192.0.2.1"), 1, now.Add(2*time.Minute)) || r.Clients() > 2 {
		t.Errorf("got %d clients two minutes later, want the new one and perhaps a shared one", r.Clients())
	}
}
