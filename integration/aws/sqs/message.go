package sqs

import (
	"crypto/md5" // the protocol asks for it
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// attribute is one that a sender gives to a message.
type attribute struct {
	DataType    string
	StringValue *string `json:",omitempty"`
	BinaryValue []byte  `json:",omitempty"`
}

// message is one in a queue.
type message struct {
	id, body, sender string
	attrs            map[string]attribute
	sent             time.Time // first put into a queue; it counts for the retention
	first            time.Time // when it was received first
	visible          time.Time // until then nobody receives it
	taken            time.Time // the last receipt
	received         int
	receipt          string // of the last delivery
}

// inFlight: it was received, and its visibility timeout is not over.
func (m *message) inFlight(now time.Time) bool { return m.received > 0 && now.Before(m.visible) }

type counts struct {
	visible, inFlight, delayed int
	at                         time.Time
}

// approximate counts as the last reading had it, if that is younger than the lag.
func (q *queue) approximate() counts {
	now := q.s.nowLocked()
	if !q.counted.at.IsZero() && now.Sub(q.counted.at) < q.s.faults.lag {
		return q.counted
	}
	c := counts{at: now}
	for _, m := range q.messages {
		switch {
		case m.inFlight(now):
			c.inFlight++
		case now.Before(m.visible):
			c.delayed++
		default:
			c.visible++
		}
	}
	q.counted = c
	return c
}

// settleLocked forgets what is older than the retention.
func (q *queue) settleLocked() {
	oldest := q.s.nowLocked().Add(-q.seconds("MessageRetentionPeriod"))
	q.messages = slices.DeleteFunc(q.messages, func(m *message) bool { return m.sent.Before(oldest) })
}

type sendInput struct {
	ID                string
	QueueURL          string
	MessageBody       string
	DelaySeconds      *int
	MessageAttributes map[string]attribute
}

type sent struct {
	ID                     string `json:"Id,omitempty"`
	MessageID              string `json:"MessageId"`
	MD5OfMessageBody       string
	MD5OfMessageAttributes string `json:",omitempty"`
}

func sendMessage(r *request) (any, *fault) {
	in, bad := read[sendInput](r)
	if bad != nil {
		return nil, bad
	}
	return r.with("SendMessage", in.QueueURL, func(q *queue) (any, *fault) { return q.send(r.Principal.UserID, &in) })
}

// send stores a message, or says why not.
func (q *queue) send(sender string, in *sendInput) (*sent, *fault) {
	if bad := q.refuses(in); bad != nil {
		return nil, bad
	}
	now := q.s.nowLocked()
	delay := q.seconds("DelaySeconds")
	if in.DelaySeconds != nil {
		delay = time.Duration(*in.DelaySeconds) * time.Second
	}
	m := &message{
		id: newID(), body: in.MessageBody, sender: sender, attrs: in.MessageAttributes, sent: now,
		visible: now.Add(delay),
	}
	q.messages = append(q.messages, m)
	if q.s.faults.doubles > 0 { // at least once: a second copy of the same message
		q.s.faults.doubles--
		twin := *m
		q.messages = append(q.messages, &twin)
	}
	q.s.wakeLocked()
	return &sent{
		ID: in.ID, MessageID: m.id, MD5OfMessageBody: sum([]byte(m.body)), MD5OfMessageAttributes: sumOf(m.attrs),
	}, nil
}

func (q *queue) refuses(in *sendInput) *fault {
	switch {
	case in.MessageBody == "":
		return faultf("MissingParameter", "MissingParameter", "The request must contain the parameter MessageBody.")
	case !slices.ContainsFunc([]rune(in.MessageBody), forbidden):
	default:
		return faultf("InvalidMessageContents", "InvalidMessageContents", "Invalid binary character was found in the "+
			"message body, the set of allowed characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | "+
			"#x10000 to #x10FFFF")
	}
	if most, _ := strconv.Atoi(q.attrs["MaximumMessageSize"]); in.size() > most {
		return invalid("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", most)
	}
	for name, a := range in.MessageAttributes {
		if a.StringValue == nil && a.BinaryValue == nil || a.StringValue != nil && *a.StringValue == "" {
			return invalid("The message attribute '%s' must contain a non-empty value.", name)
		}
	}
	if d := in.DelaySeconds; d != nil && (*d < 0 || *d > 900) {
		return invalid("Value %d for parameter DelaySeconds is invalid. "+
			"Reason: DelaySeconds must be >= 0 and <= 900.", *d)
	}
	return nil
}

// size is what counts towards the limit: body and attributes, with names and types.
func (in *sendInput) size() int {
	n := len(in.MessageBody)
	for name, a := range in.MessageAttributes {
		n += len(name) + len(a.DataType) + len(a.BinaryValue)
		if a.StringValue != nil {
			n += len(*a.StringValue)
		}
	}
	return n
}

func forbidden(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// receiptOf is a handle for one delivery.
func receiptOf(id string, delivery int) string {
	return base64.StdEncoding.EncodeToString([]byte(id + "/" + strconv.Itoa(delivery) + "/" + rand.Text()))
}

// ofReceipt is the message of a handle; false if the handle is none.
func ofReceipt(handle string) (string, bool) {
	text, err := base64.StdEncoding.DecodeString(handle)
	name, rest, found := strings.Cut(string(text), "/")
	return name, err == nil && found && strings.Contains(rest, "/")
}

func sum(b []byte) string {
	h := md5.Sum(b)
	return hex.EncodeToString(h[:])
}

// sumOf is the checksum of attributes. Source: SQS Developer Guide, "Calculating the MD5 message digest for message
// attributes".
func sumOf(attrs map[string]attribute) string {
	if len(attrs) == 0 {
		return ""
	}
	var b []byte
	add := func(text []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		a := attrs[name]
		add([]byte(name))
		add([]byte(a.DataType))
		if a.StringValue != nil {
			b = append(b, 1)
			add([]byte(*a.StringValue))
		} else {
			b = append(b, 2)
			add(a.BinaryValue)
		}
	}
	return sum(b)
}

// system are the attributes that SQS gives to a delivery.
func (m *message) system() map[string]string {
	return map[string]string{
		"SenderId":                         m.sender,
		"SentTimestamp":                    strconv.FormatInt(m.sent.UnixMilli(), 10),
		"ApproximateReceiveCount":          strconv.Itoa(m.received),
		"ApproximateFirstReceiveTimestamp": strconv.FormatInt(m.first.UnixMilli(), 10),
	}
}

// redriveTo is the queue for what was received too often, and after how many times; nil if there is none.
func (q *queue) redriveTo() (*queue, int) {
	var p redrive
	if json.Unmarshal([]byte(q.attrs["RedrivePolicy"]), &p) != nil {
		return nil, 0
	}
	most, _ := p.MaxReceiveCount.Int64() // was checked when it was set
	return q.s.atLocked(p.DeadLetterTargetArn), int(most)
}
