package walkthrough

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"cloudmaster/integration/program"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
)

// forges sends a status to a pool's status queue with somebody else's access key, newer than what the instance says.
func (s *story) forges(name, key string, st message.Status) {
	s.t.Helper()
	st.Timestamp, st.Sequence = time.Now().Add(time.Second), 1_000_000
	body, err := message.EncodeStatus(st)
	s.must(err)
	client := sqs.New(sqs.Options{
		Region: s.region, BaseEndpoint: s.ec2.Options().BaseEndpoint,
		Credentials: credentials.NewStaticCredentialsProvider(key, "secret", ""),
	})
	_, err = client.SendMessage(s.t.Context(), &sqs.SendMessageInput{
		QueueUrl: s.queueURL(name + "-status-" + deployment), MessageBody: aws.String(string(body)),
	})
	s.must(err)
}

// forgeries checks how many statuses of a pool were found to be forged.
func (s *story) forgeries(name string, n int) func() (string, bool) {
	return func() (string, bool) {
		got := s.metric(fmt.Sprintf(`cloudmaster_status_messages_total{outcome="forged",pool="%s"}`, name))
		return fmt.Sprint(got), got == float64(n)
	}
}

// TestStoryForgedIdle: the account's root user says that a busy worker is idle, or ends. So does another worker of the
// pool, which may send to its status queue too. It is counted and logged, and the worker goes on.
func TestStoryForgedIdle(t *testing.T) {
	s := newStory(t, plot{pools: primesPool, defaults: map[string]string{"start_threshold": "1"}})
	s.controllerStarts()
	s.feeds("1|"+endless, "2|"+endless)
	victim, other := s.worksOn(0, "1"), s.worksOn(0, "2")
	colleague, err := s.amazon.InstanceKey(s.region, other)
	s.must(err)
	for i, key := range []string{s.account, colleague} {
		s.forges("primes", key, message.Status{
			InstanceID: pool.InstanceID(victim), State: "active", Load: 0, Activity: message.Idle,
		})
		s.forges("primes", key, message.Status{InstanceID: pool.InstanceID(victim), State: message.Draining, Load: 0})
		s.sees("both counted", s.forgeries("primes", 2*i+2))
	}
	if n := s.logged(`"level":"WARN"`, "not from the instance", victim); n != 4 {
		t.Errorf("got %d warnings, want 4", n)
	}
	s.processed("1|"+endless, "2|"+endless)
	s.reports(0, "primes "+victim+" Processed: 1 ")
	s.reportsNot(0, victim, "interrupted")
}

// TestStoryForgedAddress: somebody who may do everything in the account sends the address of his own server for a
// server of the pool. No client is sent there.
func TestStoryForgedAddress(t *testing.T) {
	const evil = "203.0.113.66:20808"
	s := newStory(t, plot{pools: fibPool})
	s.controllerStarts()
	s.allocatorStarts()
	client := s.connected()
	s.sees("a server", s.serves(1))
	server := ids(s.set())[0]
	before := s.published()
	s.forges("fib", s.account, message.Status{
		InstanceID: pool.InstanceID(server), State: "active", Load: 0.1, Address: evil,
	})
	s.sees("it counted", s.forgeries("fib", 1))
	s.still("the address as it was", 2*time.Second, func() (string, bool) {
		now := s.published()
		return fmt.Sprint(now), maps.Equal(now, before)
	})
	for _, c := range s.clients(2) {
		s.leave(c)
	}
	s.leave(client)
}

// published returns which instances have which addresses, by what the allocator sends clients to.
func (s *story) published() map[string]bool {
	s.t.Helper()
	text, err := program.Get(s.t.Context(), "http://"+s.frontOps+"/v1/pools/fib")
	s.must(err)
	out := make(map[string]bool)
	for part := range strings.SplitSeq(text, `"address":"`) {
		address, _, ok := strings.Cut(part, `"`)
		if ok && strings.Contains(address, ":") && !strings.ContainsAny(address, "{[") {
			out[address] = true
		}
	}
	return out
}
