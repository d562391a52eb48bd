package sqsages_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/encoding/cbor"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/sqsages"
)

// fake is the one call of CloudWatch that is made, in its protocol (CBOR).
type fake struct {
	t *testing.T

	mu     sync.Mutex
	values map[string][]float64 // by queue, the newest first
	page   int                  // results in an answer; 0: all
	code   string               // with which calls are refused; empty: they are not
	calls  []cbor.Map
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	in, err := cbor.Decode(raw)
	form, isMap := in.(cbor.Map)
	if err != nil || !isMap || !strings.HasSuffix(r.URL.Path, "/operation/GetMetricData") {
		f.t.Errorf("got %s with %v, %v, want GetMetricData with a map", r.URL.Path, in, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f.calls = append(f.calls, form)
	if f.code != "" {
		w.WriteHeader(http.StatusForbidden)
		f.write(w, cbor.Map{"__type": cbor.String(f.code), "message": cbor.String("no")})
		return
	}
	f.write(w, f.answer(form))
}

func (f *fake) write(w io.Writer, v cbor.Value) {
	if _, err := w.Write(cbor.Encode(v)); err != nil {
		f.t.Error(err)
	}
}

// answer has a result for each queue, as CloudWatch has: without values where it knows none.
func (f *fake) answer(form cbor.Map) cbor.Map {
	queries, _ := form["MetricDataQueries"].(cbor.List)
	begin := 0
	if token, ok := form["NextToken"].(cbor.String); ok {
		if _, err := fmt.Sscan(string(token), &begin); err != nil {
			f.t.Error(err)
		}
	}
	end := len(queries)
	if f.page > 0 {
		end = min(end, begin+f.page)
	}
	var results cbor.List
	for _, q := range queries[begin:end] {
		id := q.(cbor.Map)["Id"]
		metric := q.(cbor.Map)["MetricStat"].(cbor.Map)["Metric"].(cbor.Map)
		name := metric["Dimensions"].(cbor.List)[0].(cbor.Map)["Value"].(cbor.String)
		values := cbor.List{}
		if metric["MetricName"] == cbor.String("ApproximateAgeOfOldestMessage") {
			for _, v := range f.values[string(name)] {
				values = append(values, cbor.Float64(v))
			}
		}
		results = append(results, cbor.Map{"Id": id, "StatusCode": cbor.String("Complete"), "Values": values})
	}
	if begin > 0 { // later pages may go on with older values of a queue
		id := queries[0].(cbor.Map)["Id"]
		results = append(results, cbor.Map{"Id": id, "Values": cbor.List{cbor.Float64(1)}})
	}
	out := cbor.Map{"MetricDataResults": results}
	if end < len(queries) {
		out["NextToken"] = cbor.String(fmt.Sprint(end))
	}
	return out
}

func newReader(t *testing.T, f *fake) *sqsages.Reader {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	f.t = t
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{
		Region: "eu-west-1", Endpoint: srv.URL, Client: "controller", PolicyFile: "deploy/aws/controller.json",
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return sqsages.New(cfg)
}

func TestAges(t *testing.T) {
	f := &fake{values: map[string][]float64{"jobs": {7200, 1}, "jobs-dead": {86400}, "odd": {-1}}, page: 2}
	ages, err := newReader(t, f).Ages(t.Context(), "jobs", "jobs-dead", "idle", "odd")
	if err != nil {
		t.Fatal(err)
	}
	const keeps = 14 * 24 * time.Hour
	want := map[string]queue.Age{
		"jobs":      {Known: true, Oldest: 2 * time.Hour, AtLeast: true, Retention: keeps},
		"jobs-dead": {Known: true, Oldest: 24 * time.Hour, AtLeast: true, Retention: keeps},
	}
	for name, age := range want {
		if ages[name] != age {
			t.Errorf("%s: got %+v, want the newest value, %+v", name, ages[name], age)
		}
	}
	if len(ages) != len(want) {
		t.Errorf("got %+v, want those without a value unknown", ages)
	}
}

// TestManyQueues: one call for 500 queues, because calls are limited and queues are what is paid for.
func TestManyQueues(t *testing.T) {
	f := &fake{values: map[string][]float64{"q0": {1}, "q500": {2}, "q999": {3}}}
	r := newReader(t, f)
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprint("q", i))
	}
	ages, err := r.Ages(t.Context(), names...)
	if err != nil || len(ages) != 3 || ages["q999"].Oldest != 3*time.Second {
		t.Errorf("got %+v, %v, want three ages", ages, err)
	}
	if len(f.calls) != 2 {
		t.Errorf("got %d calls, want 2", len(f.calls))
	}
	if ages, err := r.Ages(t.Context()); err != nil || len(ages) != 0 || len(f.calls) != 2 {
		t.Errorf("no queues: got %v, %v after %d calls, want none", ages, err, len(f.calls))
	}
}

func TestDenied(t *testing.T) {
	f := &fake{code: "AccessDeniedException"}
	_, err := newReader(t, f).Ages(t.Context(), "jobs")
	if !errors.Is(err, queue.ErrDenied) || !strings.Contains(err.Error(),
		"cloudwatch:GetMetricData is denied to controller; deploy/aws/controller.json grants it") {
		t.Errorf("got %v, want the right that is missing, and where it is", err)
	}
}
