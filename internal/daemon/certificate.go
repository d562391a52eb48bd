package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateLook is how often the files of a certificate are looked at, at most.
const certificateLook = time.Second

// ServerTLS returns how a server speaks TLS, at least 1.2, with a certificate and a private key from files in PEM form.
// They are read again when they change. If they cannot be used then, for example because only one of them has been
// replaced so far, the last ones stay in use, and the log has why. A certificate that has expired, or is not valid yet,
// is used, with a warning, because the clock may be what is wrong. A nil log discards.
//
// It offers HTTP/1.1 alone, so that what bounds connections bounds requests under way as well.
func ServerTLS(certificate, key string, log *slog.Logger) (*tls.Config, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &certificateFiles{certificate: certificate, key: key, log: log}
	c.seen, _ = c.stat() // what is missing is named by the next line
	if err := c.load(time.Now()); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(time.Now()), nil },
	}, nil
}

type certificateFiles struct {
	certificate, key string
	log              *slog.Logger

	mu     sync.Mutex
	last   *tls.Certificate // guarded by mu
	seen   [2]os.FileInfo   // guarded by mu; as the files were when they were read last
	looked time.Time        // guarded by mu
}

func (c *certificateFiles) current(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) < certificateLook {
		return c.last
	}
	c.looked = now
	seen, err := c.stat()
	if err == nil && sameFile(seen[0], c.seen[0]) && sameFile(seen[1], c.seen[1]) {
		return c.last
	}
	gone := err != nil && c.seen == [2]os.FileInfo{}
	c.seen = seen
	if gone { // it has been said already
		return c.last
	}
	ctx := context.Background()
	if err := c.load(now); err != nil {
		c.log.WarnContext(ctx, "certificate cannot be read again; the last one stays in use", "error", err)
	} else {
		c.log.InfoContext(ctx, "certificate was read again", "file", c.certificate,
			"valid_until", c.last.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return c.last
}

// stat returns how both files are; nothing with an error.
func (c *certificateFiles) stat() (out [2]os.FileInfo, err error) {
	certificate, err := os.Stat(c.certificate)
	key, err2 := os.Stat(c.key)
	if err := errors.Join(err, err2); err != nil {
		return out, err
	}
	return [2]os.FileInfo{certificate, key}, nil
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (c *certificateFiles) load(now time.Time) error {
	pair, err := tls.LoadX509KeyPair(c.certificate, c.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w: name the certificate, with those that signed it behind it, "+
			"and its own key, both in PEM form", c.certificate, c.key, err)
	}
	ctx := context.Background()
	if info, err := os.Stat(c.key); err == nil && info.Mode().Perm()&0o007 != 0 {
		c.log.WarnContext(ctx, "the private key can be read by others: chmod 600 it, or have a new one made if "+
			"somebody may have read it", "file", c.key)
	}
	switch {
	case now.After(pair.Leaf.NotAfter):
		c.log.WarnContext(ctx, "the certificate has expired, clients will refuse it: put a new one in its place, "+
			"which is then read at once", "file", c.certificate,
			"valid_until", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(pair.Leaf.NotBefore):
		c.log.WarnContext(ctx, "the certificate is not valid yet: is the clock right?", "file", c.certificate,
			"valid_from", pair.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	c.last = &pair
	return nil
}
