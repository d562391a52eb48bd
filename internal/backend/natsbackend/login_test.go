package natsbackend_test

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/queue"
)

// seed has the form of an nkey's, and is none.
const seed = "SUAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func written(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func tryLogin(t *testing.T, address string) error {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	b, err := natsbackend.Open(t.Context(), u, backend.Options{})
	if err != nil {
		return err
	}
	return b.Close()
}

// TestLoginFiles checks each kind of file that a program can log in with.
func TestLoginFiles(t *testing.T) {
	t.Parallel()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	byName := startBroker(t, server.Options{Username: "cloud", Password: "master"}).srv.Addr().String()
	byKey := startBroker(t, server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}}).srv.Addr().String()
	for what, c := range map[string]struct {
		broker, file string
		denied       bool
	}{
		"user and password":    {byName, string(natsbackend.Login("cloud", "master", "")), false},
		"with a sender":        {byName, "# a comment\n" + string(natsbackend.Login("cloud", "master", "i-1")), false},
		"a wrong password":     {byName, string(natsbackend.Login("cloud", "monster", "")), true},
		"an nkey seed":         {byKey, string(secret) + "\n", false},
		"a password for nkeys": {byKey, string(natsbackend.Login("cloud", "master", "")), true},
	} {
		err := tryLogin(t, "nats://"+c.broker+"?credentials="+written(t, c.file))
		if c.denied && (!errors.Is(err, queue.ErrDenied) || !strings.Contains(err.Error(), "renew the file")) ||
			!c.denied && err != nil {
			t.Errorf("%s: got %v, want it denied: %v", what, err, c.denied)
		}
	}
}

// TestBadLoginFiles checks that errors say what a file should have, and nothing of what it has.
func TestBadLoginFiles(t *testing.T) {
	t.Parallel()
	for what, content := range map[string]string{
		"empty": "", "without password": "user: hidden\n", "without user": "password: hidden\n",
		"something else": "hidden\n", "an unknown line": "user: a\npassword: hidden\ntoken: hidden\n",
	} {
		err := tryLogin(t, "nats://127.0.0.1:1?credentials="+written(t, content))
		if err == nil || !strings.Contains(err.Error(), "want a credentials file of NATS") ||
			strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: got %v, want an error that says what is wanted", what, err)
		}
	}
	if err := tryLogin(t, "nats://127.0.0.1:1?credentials="+written(t, seed)); err == nil ||
		strings.Contains(err.Error(), seed) || !strings.Contains(err.Error(), "no valid nkey seed") {
		t.Errorf("a bad seed: got %v", err)
	}
}

// TestFileByVariable checks that the name of a file may begin with a variable of the environment.
func TestFileByVariable(t *testing.T) {
	address := startBroker(t, server.Options{Username: "cloud", Password: "master"}).srv.Addr().String()
	file := written(t, string(natsbackend.Login("cloud", "master", "")))
	t.Setenv("TEST_LOGIN_DIR", filepath.Dir(file))
	if err := tryLogin(t, natsbackend.WithLogin("nats://"+address, "$TEST_LOGIN_DIR/login")); err != nil {
		t.Error(err)
	}
}

// TestNoTLSWhereItIsWanted checks that a login is not sent to a broker that speaks no TLS if the address wants it.
func TestNoTLSWhereItIsWanted(t *testing.T) {
	t.Parallel()
	address := startBroker(t, server.Options{Username: "cloud", Password: "master"}).srv.Addr().String()
	err := tryLogin(t, "nats://cloud:master@"+address+"?tls=true")
	if !errors.Is(err, queue.ErrDenied) || !strings.Contains(err.Error(), "speaks no TLS") {
		t.Errorf("got %v, want an error that says that there is no TLS", err)
	}
}
