package backend_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"cloudmaster/internal/backend"
)

// fakeBackend is told apart by its address; no method is called.
type fakeBackend struct {
	backend.Backend
	address *url.URL
	opts    backend.Options
}

func opener(_ context.Context, address *url.URL, opts backend.Options) (backend.Backend, error) {
	return &fakeBackend{address: address, opts: opts}, nil
}

var errAway = errors.New("broker is away")

func failing(context.Context, *url.URL, backend.Options) (backend.Backend, error) {
	return nil, errAway
}

func TestOpen(t *testing.T) {
	t.Parallel()
	openers := backend.Openers{"nats": opener, "aws": failing}
	cases := map[string]struct{ address, wantHost string }{
		"host and port":        {"nats://127.0.0.1:4222", "127.0.0.1:4222"},
		"scheme in capitals":   {"NATS://broker", "broker"},
		"password and options": {"nats://me:secret@broker:4222/x?y=z", "broker:4222"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := backend.Open(t.Context(), c.address, openers,
				backend.Options{Deployment: "demo", Client: "fib-server"})
			if err != nil {
				t.Fatal(err)
			}
			b := got.(*fakeBackend)
			if b.address.Host != c.wantHost {
				t.Errorf("got host %q, want %q", b.address.Host, c.wantHost)
			}
			if b.opts.Deployment != "demo" || b.opts.Client != "fib-server" || b.opts.Log == nil {
				t.Errorf("got options %+v, want those given and a logger", b.opts)
			}
		})
	}
}

func TestOpenPassesTheCredentialsOn(t *testing.T) {
	t.Parallel()
	got, err := backend.Open(t.Context(), "nats://me:s%2Fcret@broker", backend.Openers{"nats": opener},
		backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if password, _ := got.(*fakeBackend).address.User.Password(); password != "s/cret" {
		t.Errorf("got password %q, want s/cret", password)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	both := backend.Openers{"nats": opener, "aws": opener}
	cases := map[string]struct {
		address string
		openers backend.Openers
		want    string
	}{
		"unknown scheme": {
			"redis://h", both,
			`backend address "redis://h": this program speaks aws, nats, as in nats://HOST:4222 or aws://eu-west-1`,
		},
		"no scheme":     {"localhost", both, `backend address "localhost": this program speaks aws, nats`},
		"host and port": {"localhost:4222", both, `backend address "localhost:4222": this program speaks aws, nats`},
		"empty":         {"", both, `backend address "": this program speaks aws, nats`},
		"bad port":      {"nats://h:port", both, `backend address "nats://h:port": invalid port ":port" after host`},
		"control character": {
			"nats://h\n", both, `backend address "nats://h\n": net/url: invalid control character in URL`,
		},
		"no openers": {"nats://h", nil, `backend address "nats://h": this program speaks to no backend`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := backend.Open(t.Context(), c.address, c.openers, backend.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) || b != nil {
				t.Errorf("got %v, %v, want an error with %q", b, err, c.want)
			}
		})
	}
}

func TestOpenKeepsTheOpenersError(t *testing.T) {
	t.Parallel()
	b, err := backend.Open(t.Context(), "nats://h:4222", backend.Openers{"nats": failing}, backend.Options{})
	if !errors.Is(err, errAway) || err.Error() != "open backend nats://h:4222: broker is away" || b != nil {
		t.Errorf("got %v, %v, want the opener's error with the address", b, err)
	}
}

func TestErrorsHideCredentials(t *testing.T) {
	t.Parallel()
	addresses := map[string]string{
		"password":                "nats://me:secret@h:4222",
		"token":                   "nats://secret@h:4222",
		"unknown scheme":          "redis://me:secret@h",
		"no scheme":               "me:secret@h",
		"token without a scheme":  "secret@h",
		"bad port":                "nats://me:secret@h:port",
		"slash in the password":   "nats://me:secret/part@h",
		"percent in the password": "nats://me:%secret@h",
		"at in the password":      "nats://me:sec@secret@h",
		"two servers":             "nats://me:secret@h,nats://me:secret@i",
		"control character":       "nats://me:secret@h\x00",
	}
	for name, address := range addresses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := backend.Open(t.Context(), address, backend.Openers{"nats": failing}, backend.Options{})
			if err == nil {
				t.Fatal("got no error")
			}
			for _, secret := range []string{"secret", "sec", "cret", "me:"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("got %q, want nothing of the credentials in it", err)
				}
			}
		})
	}
}

// TestRedactedMistakes checks that secrets in places where none belong are hidden, too.
func TestRedactedMistakes(t *testing.T) {
	t.Parallel()
	const seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
	for address, want := range map[string]string{
		"nats://h?credentials=" + seed:                        "nats://h?credentials=xxxxx",
		"nats://h?password=geheim&replicas=3":                 "nats://h?password=xxxxx&replicas=3",
		"nats://h?Token=geheim":                               "nats://h?Token=xxxxx",
		"nats://a:b@h?credentials=/etc/nats":                  "nats://xxxxx@h?credentials=/etc/nats",
		"nats://h?credentials=eyJ0eXAiOiJKV1QiLCJhbGciOiJl.x": "nats://h?credentials=xxxxx",
		"nats://h?ca=/etc/ca.pem&credentials=$DIR/login":      "nats://h?ca=/etc/ca.pem&credentials=$DIR/login",
	} {
		if got := backend.Redacted(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}
