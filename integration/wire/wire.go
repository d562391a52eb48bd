// Package wire is a proxy in front of LocalStack. It passes calls on with their Host header, so
// that addresses in answers lead back through it. It counts calls by service and action, disturbs
// those that a test selects, and gives RunInstances the idempotent client tokens that LocalStack lacks.
package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// launchTimeout bounds a RunInstances whose caller no longer waits.
const launchTimeout = time.Minute

// Options are the settings of Start; zero values work.
type Options struct {
	Log *slog.Logger // nil logs nothing
	// OwnTokens: the target keeps client tokens itself, as EC2 does, so that the wire need not.
	OwnTokens bool
}

// Wire is a running proxy. Its methods may be called concurrently.
type Wire struct {
	target    *url.URL
	url       string
	log       *slog.Logger
	ownTokens bool
	transport *http.Transport
	server    *http.Server
	served    chan error
	calls     sync.WaitGroup
	tokens    tokens

	mu     sync.Mutex
	counts map[Call]int // guarded by mu
	rules  []*rule      // guarded by mu
}

// Start begins to pass calls on to the target, an address such as http://127.0.0.1:4566.
func Start(ctx context.Context, target string, opts Options) (*Wire, error) {
	to, err := url.Parse(target)
	if err != nil || to.Host == "" {
		return nil, errors.Join(fmt.Errorf("start wire: %q is not an address", target), err)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start wire: %w", err)
	}
	w := &Wire{
		target: to, url: "http://" + listener.Addr().String(), log: opts.Log, ownTokens: opts.OwnTokens,
		// Without compression of its own, bodies pass unchanged.
		transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		served:    make(chan error, 1),
		counts:    make(map[Call]int),
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second}
	go func() { w.served <- w.server.Serve(listener) }()
	return w, nil
}

// URL returns the address to use in place of the target's.
func (w *Wire) URL() string { return w.url }

// Close cuts every connection, and returns when no call is under way. It must be called only once.
func (w *Wire) Close() error {
	err := w.server.Close()
	if served := <-w.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	w.calls.Wait()
	w.transport.CloseIdleConnections()
	return err
}

// Counts returns how many calls have arrived, including those that were disturbed.
func (w *Wire) Counts() map[Call]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.counts)
}

// Reset makes the counts start from zero again.
func (w *Wire) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.counts)
}

// ServeHTTP handles one call.
func (w *Wire) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	w.calls.Add(1)
	defer w.calls.Done()
	body, err := io.ReadAll(in.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the caller is gone
	}
	call, form := classify(in, body)
	fault, lifted := w.arrived(call, in, body)
	switch fault.kind {
	case none, loseAnswer:
	case throttle:
		throttled(call).write(out)
		return
	case refuse:
		panic(http.ErrAbortHandler)
	case hang:
		wait(in.Context(), nil, lifted)
		panic(http.ErrAbortHandler)
	case delay:
		timer := time.NewTimer(fault.delay)
		defer timer.Stop()
		wait(in.Context(), timer.C, lifted)
	}
	a, err := w.pass(in, body, call, form)
	if fault.kind == loseAnswer || err != nil && in.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		w.log.WarnContext(in.Context(), "call not passed on", "service", call.Service, "action", call.Action,
			"error", err)
		http.Error(out, err.Error(), http.StatusBadGateway)
		return
	}
	a.write(out)
}

// wait returns when the time has come, when the fault is lifted, or when the caller no longer
// waits. Close has that last effect, because it cuts the connection.
func wait(ctx context.Context, at <-chan time.Time, lifted <-chan struct{}) {
	select {
	case <-at:
	case <-lifted:
	case <-ctx.Done():
	}
}

// pass returns the target's answer, or the recorded one.
func (w *Wire) pass(in *http.Request, body []byte, call Call, form url.Values) (answer, error) {
	token := form.Get("ClientToken")
	if call != (Call{Service: "ec2", Action: "RunInstances"}) || token == "" {
		return w.forward(in.Context(), in, body)
	}
	// A launch goes on even if its caller has left, because the caller must find it recorded when it asks again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.Context()), launchTimeout)
	defer cancel()
	if w.ownTokens {
		return w.forward(ctx, in, body)
	}
	return w.tokens.once(token, form.Encode(), func() (answer, error) { return w.forward(ctx, in, body) })
}

// connectionHeaders concern one connection only, and are not passed on.
var connectionHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
}

func (w *Wire) forward(ctx context.Context, in *http.Request, body []byte) (answer, error) {
	req := in.Clone(ctx) // including its Host
	req.URL.Scheme, req.URL.Host = w.target.Scheme, w.target.Host
	req.RequestURI = ""
	// With GetBody, the transport can repeat a call on a new connection when the target has closed an idle one.
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.ContentLength, req.TransferEncoding = int64(len(body)), nil
	if req.Body, _ = req.GetBody(); len(body) == 0 {
		req.Body = http.NoBody
	}
	for _, name := range connectionHeaders {
		req.Header.Del(name)
	}
	resp, err := w.transport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	for _, name := range connectionHeaders {
		resp.Header.Del(name)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: text}, nil
}

// answer is the answer that a caller gets.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) write(out http.ResponseWriter) {
	maps.Copy(out.Header(), a.header)
	out.WriteHeader(a.status)
	_, _ = out.Write(a.body) // fails only if the caller is gone
}
