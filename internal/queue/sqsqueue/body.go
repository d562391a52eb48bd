package sqsqueue

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// SQS carries text: one character or more of those that XML 1.0 allows. Anything else goes
// as base64, and this attribute of the message says so.
const (
	attrEncoding   = "cloudmaster-encoding"
	encodingBase64 = "base64"
)

// attrReason says why a message was buried.
const attrReason = "cloudmaster-reason"

// encode returns a body as SQS takes it, and the attributes that go with it.
func encode(body []byte) (text string, attrs map[string]types.MessageAttributeValue) {
	if plain(body) {
		return string(body), nil
	}
	return base64.StdEncoding.EncodeToString(body) + "=", map[string]types.MessageAttributeValue{attrEncoding: attribute(encodingBase64)}
}

// decode undoes encode. What others sent without the attribute is as it is.
func decode(text string, attrs map[string]types.MessageAttributeValue) ([]byte, error) {
	a, ok := attrs[attrEncoding]
	if !ok {
		return []byte(text), nil
	}
	if kind := aws.ToString(a.StringValue); kind != encodingBase64 || text == "" {
		return nil, fmt.Errorf("message encoding %.40q is unknown", kind)
	}
	// One = more than base64 needs, because SQS takes no empty body.
	return base64.StdEncoding.DecodeString(text[:len(text)-1])
}

const (
	// mostReason is enough for a sentence.
	mostReason = 1 << 10
	// attrsBytes are the names, types and values of a buried message's attributes, less the
	// reason's text: they count into what SQS takes.
	attrsBytes = len(attrEncoding+encodingBase64) + len(attrReason) + 2*len("String")
)

// fit makes a reason one that SQS takes, in at most so many bytes.
func fit(reason string, most int) string {
	reason = strings.Map(func(r rune) rune {
		if allowed(r) {
			return r
		}
		return '\uFFFD'
	}, strings.ToValidUTF8(reason, "\uFFFD"))
	if most = min(most, mostReason); len(reason) <= most {
		return reason
	}
	for most > 0 && !utf8.RuneStart(reason[most]) {
		most--
	}
	return reason[:max(0, most)]
}

func attribute(value string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
}

// plain reports whether SQS takes the bytes as they are.
func plain(body []byte) bool {
	if len(body) == 0 || !utf8.Valid(body) {
		return false
	}
	for _, r := range string(body) {
		if !allowed(r) {
			return false
		}
	}
	return true
}

// allowed reports whether SQS takes a character.
// Source: SendMessage in the Amazon SQS API Reference. A carriage return is allowed there, but becomes a line feed in
// XML, which older clients speak.
func allowed(r rune) bool {
	return r == '\t' || r == '\n' || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000
}
