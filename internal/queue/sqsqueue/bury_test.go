package sqsqueue

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"cloudmaster/internal/queue"
)

// letterless is an SQS whose queue of dead letters takes nothing.
type letterless struct {
	mu    sync.Mutex
	asked []string // the operations
}

// ServeHTTP implements http.Handler.
func (s *letterless) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	s.mu.Lock()
	s.asked = append(s.asked, op)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	switch op {
	case "GetQueueUrl":
		fmt.Fprintf(w, `{"QueueUrl":"http://%s/1/dead"}`, r.Host)
	case "DeleteMessageBatch":
		fmt.Fprint(w, `{"Successful":[{"Id":"0"}],"Failed":[]}`)
	default:
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type":"com.amazonaws.sqs#UnsupportedOperation","message":"no letters today"}`)
	}
}

func (s *letterless) operations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// TestBuryDeletesNothingBeforeTheLetterIsStored, or a message would be lost with its letter.
func TestBuryDeletesNothingBeforeTheLetterIsStored(t *testing.T) {
	t.Parallel()
	fake := &letterless{}
	srv := httptest.NewServer(fake)
	defer srv.Close()
	q := &Queue{name: "jobs", url: srv.URL + "/1/jobs", client: sqs.New(sqs.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(srv.URL), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := q.Bury(ctx, queue.Message{ID: "1", Body: []byte("1|"), Receipt: "r"}, "N is missing")
	if err == nil || !strings.Contains(err.Error(), "no letters today") {
		t.Errorf("got %v, want the error of the dead letters", err)
	}
	if got := fake.operations(); !slices.Contains(got, "SendMessage") || slices.Contains(got, "DeleteMessageBatch") {
		t.Errorf("got %q, want that the letter was tried, and nothing deleted", got)
	}
}
