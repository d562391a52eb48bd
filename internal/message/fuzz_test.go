package message_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/message"
)

func FuzzParseStd(f *testing.F) {
	f.Add([]byte(goldenStatus))
	f.Add([]byte(goldenLog))
	f.Add([]byte("--- \n:type: :status\n:instance_id: &1 i-0abc\n:state: *1\n:load_estimate: 0.5\n" +
		":timestamp: 2008-10-22 10:00:00.25 -04:00\n"))
	f.Add([]byte(":type: log\n:instance_id: i-0abc\n:message: |-\n  a\n  b\n" +
		":timestamp: Wed Oct 22 10:00:00 -0400 2008\n"))
	f.Add([]byte(bomb()))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := message.ParseStd(body)
		checkParsed(t, body, m, err)
	})
}

func FuzzParseLifeguard(f *testing.F) {
	f.Add([]byte(lifeguard("i-0abc", "busy", "PT60S", "2008-10-22T14:00:00Z")))
	f.Add([]byte(`<InstanceStatus xmlns="u"><Timestamp>2008-10-22T14:00:00Z</Timestamp><InstanceId>&lt;</InstanceId>` +
		`</InstanceStatus>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := message.ParseLifeguard(body)
		checkParsed(t, body, m, err)
	})
}

// checkParsed checks that a parsed message survives being written and read again, and that an error is short.
func checkParsed(t *testing.T, body []byte, m message.Message, err error) {
	t.Helper()
	if err != nil {
		if m != nil || len(err.Error()) > 1500 {
			t.Errorf("got %+v beside an error of %d bytes: %v", m, len(err.Error()), err)
		}
		return
	}
	const worst = 6 // bytes that JSON makes of one
	if len(body) > message.MaxText || len(body)*worst > message.MaxSize {
		return // written again it may have to be cut
	}
	again, err := message.ParseStd(encode(t, m))
	if diff := cmp.Diff(m, again); err != nil || diff != "" {
		t.Errorf("written and read again: %v (-first +second):\n%s", err, diff)
	}
}
