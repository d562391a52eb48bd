// Package allocate asks the allocator, over HTTP, which server a client should use.
//
// That no server is running is a *NoServersError; that the allocator cannot be
// reached or answers something else is another error, which names its address.
package allocate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
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
	Transport http.RoundTripper // nil: http.DefaultTransport
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

// Client asks one allocator. It may be used concurrently.
type Client struct {
	base *url.URL
	http *http.Client
}

// New returns a client for the allocator at a URL such as "http://127.0.0.1:20809".
func New(base string, opts Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("allocator must be a URL like http://127.0.0.1:20809, not %q", base)
	}
	return &Client{base: u, http: &http.Client{
		Timeout: cmp.Or(opts.Timeout, DefaultTimeout), Transport: opts.Transport,
	}}, nil
}

// Ask returns a server of the pool.
func (c *Client) Ask(ctx context.Context, pool string) (Server, error) {
	server, err := c.ask(ctx, pool)
	if _, none := errors.AsType[*NoServersError](err); err != nil && !none {
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
	resp, err := c.http.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the address, which Ask names
		}
		return Server{}, fmt.Errorf("%w: is it running there? --allocator names another", err)
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
