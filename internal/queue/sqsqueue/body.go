package sqsqueue

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// SQS carries text: at least one character, and only characters that XML 1.0 allows. Any other body
// is sent as base64, and this attribute of the message says so.
const (
	attrEncoding   = "cloudmaster-encoding"
	encodingBase64 = "base64"
)

// attrReason says why a message was buried.
const attrReason = "cloudmaster-reason"

// encode returns a body as text that SQS accepts, and the attributes that it needs.
func encode(body []byte) (text string, attrs map[string]types.MessageAttributeValue) {
	if plain(body) {
		return string(body), nil
	}
	return base64.StdEncoding.EncodeToString(body) + "=",
		map[string]types.MessageAttributeValue{attrEncoding: attribute(encodingBase64)}
}

// decode undoes encode. A message without the attribute, such as one that another program sent, is
// returned unchanged.
func decode(text string, attrs map[string]types.MessageAttributeValue) ([]byte, error) {
	a, ok := attrs[attrEncoding]
	if !ok {
		return []byte(text), nil
	}
	if kind := aws.ToString(a.StringValue); kind != encodingBase64 || text == "" {
		return nil, fmt.Errorf("message encoding %.40q is unknown", kind)
	}
	// encode appended one more "=", because SQS accepts no empty text.
	return base64.StdEncoding.DecodeString(text[:len(text)-1])
}

const (
	// mostReason is the most that is kept of a reason, in bytes: enough for a sentence.
	mostReason = 1 << 10
	// attrsBytes is the size of a buried message's attributes, names and types included, but without
	// the text of the reason: attributes count towards the size limit of SQS.
	attrsBytes = len(attrEncoding+encodingBase64) + len(attrReason) + 2*len("String")
)

// fit changes a reason into text that SQS accepts, of at most so many bytes.
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

// plain reports whether SQS accepts the bytes unchanged.
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

// allowed reports whether SQS carries a character unchanged. Source: SendMessage in the Amazon SQS
// API Reference. That page also allows a carriage return, but in XML, which older clients speak, it
// becomes a line feed.
func allowed(r rune) bool {
	return r == '\t' || r == '\n' || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000
}
