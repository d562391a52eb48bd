package daemon_test

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/certtest"
	"cloudmaster/internal/daemon"
)

// TestServerTLS: a new certificate is used when both its files are there, and until then the last one.
func TestServerTLS(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	until := time.Now().Add(30 * time.Minute)
	certificate, key := certtest.Write(t, dir, until)
	newCertificate, newKey := certtest.Write(t, other, until)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		conf, err := daemon.ServerTLS(certificate, key, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		shown := func() string {
			time.Sleep(time.Second)
			c, err := conf.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			return c.Leaf.SerialNumber.String()
		}
		before := shown()
		move(t, newCertificate, certificate)
		for range 3 {
			if got := shown(); got != before {
				t.Errorf("with half of the new one: got %s, want the last one", got)
			}
		}
		move(t, newKey, key)
		if got := shown(); got == before {
			t.Error("got the old one, want the new one")
		}
		if got := strings.Count(log.String(), "cannot be read again"); got != 1 {
			t.Errorf("got %d warnings of the half, want 1:\n%s", got, log.String())
		}
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		shown()
		shown()
		if got := strings.Count(log.String(), "cannot be read again"); got != 2 {
			t.Errorf("got %d warnings, want one for the half and one for the loss:\n%s", got, log.String())
		}
	})
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestServerTLSRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, _ := certtest.Write(t, dir, time.Now().Add(time.Hour))
	_, otherKey := certtest.Write(t, t.TempDir(), time.Now().Add(time.Hour))
	for name, c := range map[string][2]string{
		"key of another": {certificate, otherKey}, "no file": {dir + "/none", otherKey},
		"no certificate": {otherKey, otherKey},
	} {
		_, err := daemon.ServerTLS(c[0], c[1], nil)
		if err == nil || !strings.Contains(err.Error(), c[0]) || !strings.Contains(err.Error(), "in PEM form") {
			t.Errorf("%s: got %v, want the file and the next step", name, err)
		}
	}
}

func TestServerTLSWarns(t *testing.T) {
	t.Parallel()
	for want, until := range map[string]time.Time{
		"has expired": time.Now().Add(-time.Minute), "is not valid yet": time.Now().Add(3 * time.Hour),
		"can be read by others": time.Now().Add(time.Minute),
	} {
		certificate, key := certtest.Write(t, t.TempDir(), until)
		if want == "can be read by others" {
			if err := os.Chmod(key, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		if _, err := daemon.ServerTLS(certificate, key, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Errorf("%s: got %v, want a warning only", want, err)
		}
		if got := log.String(); strings.Count(got, "WARN") != 1 || !strings.Contains(got, want) {
			t.Errorf("got %q, want one warning with %q", got, want)
		}
	}
}
