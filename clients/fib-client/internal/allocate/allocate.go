// Package allocate asks the allocator, over HTTP, which server a client should use.
//
// That no server is running is a *NoServersError, and that this client has asked too often a *TooManyError; that the
// allocator cannot be reached or answers something else is another error, which names its address.
package allocate

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"cloudmaster/internal/bearer"
)

// DefaultTimeout bounds one question if Options.Timeout is 0.
const DefaultTimeout = 10 * time.Second

const (
	maxBody   = 64 << 10
	maxDetail = 200 // characters of the allocator's text that are shown to people
)

// Options of a Client; the zero value works.
type Options struct {
	Timeout   time.Duration
	Transport http.RoundTripper // nil: http.DefaultTransport, or one with CA
	TokenFile string            // with the token to send, read for each question; empty: none is sent
	CA        string            // file with the authorities that may sign its certificate; empty: the system's
}

// Server is where the allocator sends a client.
type Server struct {
	ID      string  `json:"id"`
	Address string  `json:"address"` // host:port
	Load    float64 `json:"load_estimate"`
}

// NoServersError says that the pool has no server for now.
type NoServersError struct {
	Detail     string        // the allocator's sentence for people
	RetryAfter time.Duration // when to ask again; 0 if it did not say
}

// Error returns the sentence.
func (e *NoServersError) Error() string { return e.Detail }

// TooManyError says that too many questions came from this client's address.
type TooManyError struct {
	Detail     string        // the allocator's sentence for people
	RetryAfter time.Duration // when to ask again; 0 if it did not say
}

// Error returns the sentence.
func (e *TooManyError) Error() string { return e.Detail }

// Client asks one allocator. It may be used concurrently.
type Client struct {
	base      *url.URL
	http      *http.Client
	tokenFile string
}

// New returns a client for the allocator at a URL such as "http://127.0.0.1:20809".
func New(base string, opts Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("allocator must be a URL like http://127.0.0.1:20809, not %q", base)
	}
	c := &Client{base: u, tokenFile: opts.TokenFile, http: &http.Client{
		Timeout: cmp.Or(opts.Timeout, DefaultTimeout), Transport: opts.Transport,
	}}
	if opts.CA != "" {
		if c.http.Transport, err = trusting(u, opts.CA); err != nil {
			return nil, err
		}
	}
	if opts.TokenFile != "" {
		if _, err := bearer.Read(opts.TokenFile); err != nil {
			return nil, fmt.Errorf("allocator-token-file: %w", err)
		}
		// A token is for the allocator that was named, and for no other address.
		c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return c, nil
}

// Close closes the connections that wait for another question.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// TokenInClear reports whether a token is sent over a network without TLS.
func (c *Client) TokenInClear() bool {
	host := c.base.Hostname()
	return c.tokenFile != "" && c.base.Scheme == "http" && host != "localhost" && !net.ParseIP(host).IsLoopback()
}

// trusting returns a transport that trusts the authorities in a file and no other.
func trusting(base *url.URL, file string) (*http.Transport, error) {
	if base.Scheme != "https" {
		return nil, fmt.Errorf("allocator-ca: is for an allocator at https://, not %s", base.Redacted())
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("allocator-ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(doc) {
		return nil, fmt.Errorf("allocator-ca: %s has no certificate in PEM form", file)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = t.Clone()
	}
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return transport, nil
}

// Ask returns a server of the pool.
func (c *Client) Ask(ctx context.Context, pool string) (Server, error) {
	server, err := c.ask(ctx, pool)
	_, none := errors.AsType[*NoServersError](err)
	if _, many := errors.AsType[*TooManyError](err); err != nil && !none && !many {
		return Server{}, fmt.Errorf("ask allocator %s: %w", c.base.Redacted(), err)
	}
	return server, err
}

func (c *Client) ask(ctx context.Context, pool string) (Server, error) {
	target := c.base.JoinPath("v1", "pools", url.PathEscape(pool), "allocations")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), http.NoBody)
	if err != nil {
		return Server{}, err
	}
	if c.tokenFile != "" {
		tokens, err := bearer.Read(c.tokenFile) // again, because it may have been replaced
		if err != nil {
			return Server{}, fmt.Errorf("token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+tokens[0])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Server{}, unanswered(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return Server{}, fmt.Errorf("read its answer: %w", err)
	}
	if resp.StatusCode == http.StatusCreated {
		return parse(body)
	}
	return Server{}, refusal(resp, body)
}

// unanswered says why there was no answer, and what to do.
func unanswered(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // without the address, which Ask names
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%w: --allocator-ca names the file with the authority that has signed its certificate", err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("%w: does it speak TLS? If not, --allocator begins with http://", err)
	}
	return fmt.Errorf("%w: is it running there? --allocator names another", err)
}

// parse reads the body of a success.
func parse(body []byte) (Server, error) {
	var s Server
	if err := json.Unmarshal(body, &s); err != nil {
		return Server{}, fmt.Errorf("bad answer: %w", err)
	}
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil || host == "" || port == "" {
		return Server{}, fmt.Errorf("bad answer: address must be host:port, not %q", clean(s.Address))
	}
	return s, nil
}

// refusal makes an error of any other answer.
func refusal(resp *http.Response, body []byte) error {
	var problem struct {
		Detail string `json:"detail"`
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil && kind == "application/problem+json" && json.Unmarshal(body, &problem) != nil {
		problem.Detail = ""
	}
	detail := clean(problem.Detail)
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s: %s: --allocator-token-file names the file with a valid token", resp.Status,
			cmp.Or(detail, "it wants a token"))
	case resp.StatusCode == http.StatusTooManyRequests:
		return &TooManyError{
			Detail:     cmp.Or(detail, "the allocator had too many requests from this address"),
			RetryAfter: retryAfter(resp.Header.Get("Retry-After")),
		}
	case resp.StatusCode == http.StatusBadRequest && strings.Contains(string(body), "HTTP request to an HTTPS server"):
		return fmt.Errorf("%s: it speaks TLS: --allocator begins with https:// for it", resp.Status)
	case detail == "":
		return fmt.Errorf("bad answer: %s", resp.Status)
	case resp.StatusCode == http.StatusServiceUnavailable:
		return &NoServersError{Detail: detail, RetryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	}
	return fmt.Errorf("%s: %s", resp.Status, detail)
}

// retryAfter reads seconds or a date; 0 if it is neither.
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil {
		const most = 24 * 60 * 60
		return time.Duration(max(0, min(seconds, most))) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// clean makes text from the network fit for one line on a terminal.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	if runes := []rune(text); len(runes) > maxDetail {
		text = string(runes[:maxDetail]) + "…"
	}
	return strings.TrimSpace(text)
}
