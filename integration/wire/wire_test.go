package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target stands for LocalStack. It numbers its answers and remembers the calls.
type target struct {
	mu     sync.Mutex
	asked  []string // method, path with query, and body of each call; guarded by mu
	host   string   // of the last call; guarded by mu
	status int      // guarded by mu
	gate   chan struct{}
	cut    chan struct{} // receives a value when a call that waits at the gate is cut
}

// ServeHTTP answers with the number of the call.
func (s *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI()+" "+string(body))
	s.host = r.Host
	n, status := len(s.asked), s.status
	s.mu.Unlock()
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-r.Context().Done():
			s.cut <- struct{}{}
		}
	}
	w.Header().Set("X-Answer", "yes")
	w.WriteHeader(status)
	fmt.Fprintf(w, "answer %d", n)
}

func (s *target) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *target) answerWith(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

type bench struct {
	*Wire
	target *target
	t      *testing.T
}

func setup(t *testing.T) bench {
	t.Helper()
	b := bench{target: &target{status: http.StatusOK}, t: t}
	server := httptest.NewServer(b.target)
	t.Cleanup(server.Close)
	w, err := Start(t.Context(), server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.Wire = w
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

// reply is an answer as its receiver sees it. A lost answer has an error.
type reply struct {
	status int
	header http.Header
	body   string
	err    error
}

func (b bench) do(ctx context.Context, req *http.Request) reply {
	req.Close = true
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req.WithContext(ctx))
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, header: resp.Header, body: string(body), err: err}
}

func (b bench) request(method, path, body string, headers ...string) *http.Request {
	b.t.Helper()
	req, err := http.NewRequest(method, b.URL()+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

func (b bench) sqs(action, body string) reply {
	b.t.Helper()
	return b.do(b.t.Context(), b.request("POST", "/", body, "X-Amz-Target", "AmazonSQS."+action))
}

func (b bench) query(service, form string) *http.Request {
	b.t.Helper()
	return b.request("POST", "/", form, "Content-Type", "application/x-www-form-urlencoded; charset=utf-8",
		"Authorization", "AWS4-HMAC-SHA256 Credential=test/20300102/eu-west-1/"+service+
			"/aws4_request, SignedHeaders=host, Signature=0")
}

func (b bench) ec2(form string) reply {
	b.t.Helper()
	return b.do(b.t.Context(), b.query("ec2", form))
}

func TestCallsPassAndAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.target.answerWith(http.StatusTeapot)
	put := b.do(t.Context(), b.request("PUT", "/bucket/a%2Fb?x=1", "hello"))
	if put.status != http.StatusTeapot || put.body != "answer 1" || put.header.Get("X-Answer") != "yes" {
		t.Errorf("answer: got %+v, want the target's", put)
	}
	if got, want := b.target.asked[0], "PUT /bucket/a%2Fb?x=1 hello"; got != want {
		t.Errorf("target was asked %q, want %q", got, want)
	}
	if want := strings.TrimPrefix(b.URL(), "http://"); b.target.host != want {
		t.Errorf("host: got %s, want %s", b.target.host, want)
	}
	b.do(t.Context(), b.request("GET", "/bucket/key", ""))
	b.sqs("ReceiveMessage", "{}")
	b.sqs("ReceiveMessage", "{}")
	b.ec2("Action=DescribeInstances")
	b.do(t.Context(), b.query("sts", "Action=GetCallerIdentity"))
	want := map[Call]int{
		{"s3", "PUT"}: 1, {"s3", "GET"}: 1, {"sqs", "ReceiveMessage"}: 2,
		{"ec2", "DescribeInstances"}: 1, {"sts", "GetCallerIdentity"}: 1,
	}
	if got := b.Counts(); !maps.Equal(got, want) {
		t.Errorf("counts: got %v, want %v", got, want)
	}
	b.Reset()
	if got := b.Counts(); len(got) != 0 {
		t.Errorf("counts after Reset: got %v, want none", got)
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cases := map[string]struct {
		ask    func() reply
		status int
		code   string
	}{
		"sqs": {ask: func() reply { return b.sqs("SendMessage", "{}") }, status: 403, code: `#RequestThrottled"`},
		"ec2": {
			ask:    func() reply { return b.ec2("Action=RunInstances&ClientToken=a") },
			status: 503, code: "<Code>RequestLimitExceeded<",
		},
		"s3": {
			ask:    func() reply { return b.do(t.Context(), b.request("GET", "/b/k", "")) },
			status: 503, code: "<Code>SlowDown<",
		},
		"sts": {
			ask:    func() reply { return b.do(t.Context(), b.query("sts", "Action=GetCallerIdentity")) },
			status: 400, code: "<Code>Throttling<",
		},
	}
	lift := b.Inject(Match{}, Throttle(), 0)
	for name, c := range cases {
		if got := c.ask(); got.status != c.status || !strings.Contains(got.body, c.code) {
			t.Errorf("%s: got %+v, want %d with %s", name, got, c.status, c.code)
		}
	}
	if n := b.target.count(); n != 0 {
		t.Errorf("%d throttled calls reached the target, want none", n)
	}
	lift()
	lift() // lifting twice is harmless
	for name, c := range cases {
		if got := c.ask(); got.status != http.StatusOK {
			t.Errorf("%s after the lift: got %+v, want 200", name, got)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Inject(Match{Service: "sqs", Action: "SendMessage", Holding: "jobs"}, Throttle(), 2)
	b.Inject(Match{Holding: "/secret"}, Refuse(), 0)
	cases := []struct {
		name string
		got  reply
		want int
	}{
		{"other service", b.ec2("Action=SendMessage&q=jobs"), 200},
		{"other action", b.sqs("ReceiveMessage", "jobs"), 200},
		{"other queue", b.sqs("SendMessage", "status"), 200},
		{"first", b.sqs("SendMessage", "jobs"), 403},
		{"second", b.sqs("SendMessage", "jobs"), 403},
		{"third, one too many", b.sqs("SendMessage", "jobs"), 200},
		{"path", b.do(t.Context(), b.request("GET", "/b/secret", "")), 0},
	}
	for _, c := range cases {
		if c.got.status != c.want {
			t.Errorf("%s: got %+v, want status %d", c.name, c.got, c.want)
		}
	}
}

func TestRefuseAndLoseAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault   Fault
		arrives int
	}{"refused": {Refuse(), 0}, "lost": {LoseAnswer(), 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.Inject(Match{}, c.fault, 1)
			if got := b.sqs("SendMessage", "{}"); got.err == nil {
				t.Errorf("got %+v, want a broken connection", got)
			}
			if n := b.target.count(); n != c.arrives {
				t.Errorf("calls at the target: got %d, want %d", n, c.arrives)
			}
			if got := b.sqs("SendMessage", "{}"); got.status != http.StatusOK {
				t.Errorf("afterwards: got %+v, want 200", got)
			}
			if got := b.Counts()[Call{"sqs", "SendMessage"}]; got != 2 {
				t.Errorf("count: got %d, want 2", got)
			}
		})
	}
}

func TestHang(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lift := b.Inject(Match{}, Hang(), 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := b.do(ctx, b.request("GET", "/b/k", "")); !errors.Is(got.err, context.DeadlineExceeded) {
		t.Errorf("got %+v, want the caller's own deadline", got)
	}
	done := make(chan reply, 1)
	go func() { done <- b.do(t.Context(), b.request("GET", "/b/k", "")) }()
	b.arrivals(2)
	lift()
	if got := <-done; got.err == nil {
		t.Errorf("after the lift: got %+v, want a broken connection", got)
	}
	if n := b.target.count(); n != 0 {
		t.Errorf("%d calls reached the target, want none", n)
	}
}

// arrivals waits until so many GETs have come.
func (b bench) arrivals(n int) {
	b.t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for b.Counts()[Call{"s3", "GET"}] < n {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("not %d calls within 10 s", n)
		}
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	t.Parallel()
	w, err := Start(t.Context(), "http://127.0.0.1:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := bench{Wire: w, t: t}
	b.Inject(Match{}, Hang(), 0)
	done := make(chan reply, 1)
	go func() { done <- b.do(t.Context(), b.request("GET", "/b/k", "")) }()
	b.arrivals(1)
	if err := w.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if got := <-done; got.err == nil {
		t.Errorf("got %+v, want a broken connection", got)
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Inject(Match{Action: "PUT"}, Delay(30*time.Millisecond), 0)
	began := time.Now()
	if got := b.do(t.Context(), b.request("PUT", "/b/k", "")); got.status != http.StatusOK {
		t.Errorf("got %+v, want 200", got)
	}
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("took %s, want at least 30ms", took)
	}
	lift := b.Inject(Match{Action: "GET"}, Delay(time.Hour), 0)
	done := make(chan reply, 1)
	go func() { done <- b.do(t.Context(), b.request("GET", "/b/k", "")) }()
	b.arrivals(1)
	lift()
	if got := <-done; got.status != http.StatusOK {
		t.Errorf("after the lift: got %+v, want 200", got)
	}
}

func TestClientTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const launch = "Action=RunInstances&MinCount=1&ClientToken="
	b.Inject(Match{}, LoseAnswer(), 1)
	if got := b.ec2(launch + "a"); got.err == nil {
		t.Fatalf("got %+v, want a lost answer", got)
	}
	for _, c := range []struct{ name, form, want string }{
		{"asked again", launch + "a", "answer 1"},
		{"in another order", "ClientToken=a&MinCount=1&Action=RunInstances", "answer 1"},
		{"other parameters", launch + "a&MaxCount=2", "<Code>IdempotentParameterMismatch<"},
		{"another token", launch + "b", "answer 2"},
		{"no token", "Action=RunInstances&MinCount=1", "answer 3"},
		{"no token again", "Action=RunInstances&MinCount=1", "answer 4"},
		{"another action", "Action=CreateFleet&ClientToken=a", "answer 5"},
	} {
		if got := b.ec2(c.form); !strings.Contains(got.body, c.want) {
			t.Errorf("%s: got %+v, want %s", c.name, got, c.want)
		}
	}
}

func TestFailedLaunchIsNotRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.target.answerWith(http.StatusInternalServerError)
	b.ec2("Action=RunInstances&ClientToken=a")
	b.target.answerWith(http.StatusOK)
	if got := b.ec2("Action=RunInstances&ClientToken=a"); got.status != http.StatusOK || got.body != "answer 2" {
		t.Errorf("got %+v, want 200 and a call of its own", got)
	}
}

func TestLaunchThatNobodyWaitsForIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.target.gate, b.target.cut = make(chan struct{}), make(chan struct{}, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := b.do(ctx, b.query("ec2", "Action=RunInstances&ClientToken=a")); got.err == nil {
		t.Fatalf("got %+v, want no answer in time", got)
	}
	select {
	case <-b.target.cut:
		t.Error("the launch was cut when its caller left, want it to go on")
	case <-time.After(100 * time.Millisecond): // long enough that something forbidden would probably have happened
	}
	close(b.target.gate)
	var same sync.WaitGroup
	for range 4 {
		same.Go(func() {
			if got := b.ec2("Action=RunInstances&ClientToken=a"); got.body != "answer 1" {
				t.Errorf("got %+v, want answer 1", got)
			}
		})
	}
	same.Wait()
}

func TestTargetGone(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	w, err := Start(t.Context(), server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := bench{Wire: w, t: t}
	if got := b.do(t.Context(), b.request("GET", "/b/k", "")); got.status != http.StatusBadGateway {
		t.Errorf("got %+v, want 502", got)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Start(t.Context(), "nowhere", Options{}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("got %v, want an error with the address", err)
	}
}

// TestOwnTokens: a target that keeps client tokens itself gets each launch with a token.
func TestOwnTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ownTokens = true
	const launch = "Action=RunInstances&MinCount=1&ClientToken=a"
	for _, want := range []string{"answer 1", "answer 2"} {
		if got := b.ec2(launch); got.body != want {
			t.Errorf("got %q, want %q", got.body, want)
		}
	}
}
