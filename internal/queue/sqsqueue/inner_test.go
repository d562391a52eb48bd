package sqsqueue

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"cloudmaster/internal/queue"
)

func FuzzBody(f *testing.F) {
	for _, seed := range []string{"", "1|6573", "\x00", "\xff", "a\r\nb", "\uFFFE", "😀", "\t\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		text, attrs := encode(body)
		if !plain([]byte(text)) {
			t.Fatalf("%q goes as %q, which SQS refuses", body, text)
		}
		got, err := decode(text, attrs)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("got %q, %v, want %q back", got, err, body)
		}
	})
}

func TestPlainTextGoesAsItIs(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		"1|6573": true, `{"type":"status"}`: true, "ä\n\t😀": true,
		"": false, "\x01": false, "\xff": false, "a\rb": false, "\uFFFF": false,
	} {
		if text, attrs := encode([]byte(body)); (text == body && attrs == nil) != want {
			t.Errorf("%q goes as %q with %v; as it is: want %t", body, text, attrs, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, encoding string }{
		"an encoding of tomorrow": {"x", "zstd"}, "no base64": {"!!!", encodingBase64}, "nothing": {"", encodingBase64},
	} {
		attrs := map[string]types.MessageAttributeValue{attrEncoding: attribute(tc.encoding)}
		if got, err := decode(tc.text, attrs); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	got, err := attributes(queue.Limits{Visibility: 1500 * time.Millisecond})
	if err != nil || got["VisibilityTimeout"] != "2" || got["MessageRetentionPeriod"] != "1209600" {
		t.Errorf("got %v, %v, want 2 s and 14 days", got, err)
	}
	got, err = attributes(queue.Limits{Retention: time.Hour})
	if err != nil || got["VisibilityTimeout"] != "30" || got["MessageRetentionPeriod"] != "3600" {
		t.Errorf("got %v, %v, want 30 s and an hour", got, err)
	}
	_, err = attributes(queue.Limits{Visibility: 13 * time.Hour, Retention: time.Second, Deliveries: 1001})
	for _, want := range []string{"visibility timeout is 13h0m0s", "retention is 1s", "deliveries are 1001"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestSameRedrivePolicy(t *testing.T) {
	t.Parallel()
	ours := `{"deadLetterTargetArn":"arn:x","maxReceiveCount":5}`
	for theirs, want := range map[string]bool{
		`{"maxReceiveCount":"5","deadLetterTargetArn":"arn:x"}`: true,
		`{"maxReceiveCount":6,"deadLetterTargetArn":"arn:x"}`:   false, "": false,
	} {
		if got := same("RedrivePolicy", theirs, ours); got != want {
			t.Errorf("%s: got same %t, want %t", theirs, got, want)
		}
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{
		"AWS.SimpleQueueService.NonExistentQueue": queue.ErrNotFound, "QueueDoesNotExist": queue.ErrNotFound,
		"AccessDenied": queue.ErrDenied, "RequestThrottled": queue.ErrThrottled,
		"ThrottlingException": queue.ErrThrottled,
		"OverLimit":           queue.ErrThrottled, "BatchRequestTooLong": queue.ErrTooLarge,
	} {
		if err := classify(fmt.Errorf("x: %w", &smithy.GenericAPIError{Code: code})); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", code, err, want)
		}
	}
	err := classify(&smithy.GenericAPIError{Code: "QueueDeletedRecently"})
	if errors.Is(err, queue.ErrNotFound) || !strings.Contains(err.Error(), "wait a minute") {
		t.Errorf("got %v, want the advice to wait", err)
	}
	if classify(nil) != nil {
		t.Error("got an error for success")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, opens := range map[string]bool{
		"a b": false, "": false, strings.Repeat("x", 81): false, strings.Repeat("x", 80): true,
	} {
		if nameForm.MatchString(name) != opens {
			t.Errorf("%q: got the opposite of %t", name, opens)
		}
		_, err := Ensure(t.Context(), aws.Config{}, name, queue.Limits{}, Options{})
		if err == nil || !strings.Contains(err.Error(), "is not a name for SQS") {
			t.Errorf("ensure %q: got %v, want its name refused, or that of its dead letters", name, err)
		}
	}
}

func TestFailedEntries(t *testing.T) {
	t.Parallel()
	entries := []types.BatchResultErrorEntry{
		{Code: aws.String("ReceiptHandleIsInvalid")},
		{
			Code: aws.String("InvalidParameterValue"),
			Message: aws.String("Value x for parameter ReceiptHandle is invalid. " +
				"Reason: The receipt handle has expired."),
		},
	}
	if err := failed(entries, stale); err != nil {
		t.Errorf("receipts of what is gone: got %v, want no error", err)
	}
	entries = append(entries, types.BatchResultErrorEntry{
		Code: aws.String("InternalError"), Message: aws.String("broken"),
	})
	err := failed(entries, stale)
	if err == nil || !strings.Contains(err.Error(), "broken") || strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v, want only the error that is not harmless", err)
	}
	entries = []types.BatchResultErrorEntry{{Code: aws.String("RequestThrottled")}, {Code: aws.String("AccessDenied")}}
	if err := failed(entries, nil); !errors.Is(err, queue.ErrThrottled) || !errors.Is(err, queue.ErrDenied) {
		t.Errorf("got %v, want %v and %v", err, queue.ErrThrottled, queue.ErrDenied)
	}
}

func TestReasonFits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 1000)
	for name, c := range map[string]struct {
		reason string
		most   int
		want   string
	}{
		"as it is":           {"N is too large", 100, "N is too large"},
		"control characters": {"a\x00b\x1bc", 100, "a\uFFFDb\uFFFDc"},
		"not UTF-8":          {"a\xffb", 100, "a\uFFFDb"},
		"cut":                {"abc", 2, "ab"},
		"cut at a letter":    {"aää", 4, "aä"},
		"no room":            {"abc", 0, ""},
		"less than none":     {"abc", -5, ""},
		"a story":            {long, 1 << 20, long[:1024]},
		"none":               {"", 100, ""},
	} {
		if got := fit(c.reason, c.most); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestKeysOfOthersAreLeft(t *testing.T) {
	t.Parallel()
	want := common(maxRetention)
	have := maps.Clone(want)
	have["SqsManagedSseEnabled"] = "false"
	if got := differing(have, want); len(got) != 1 {
		t.Errorf("without a key: got %v to change, want the encryption", got)
	}
	have["KmsMasterKeyId"] = "alias/mine"
	if got := differing(have, want); len(got) != 0 {
		t.Errorf("with a key: got %v to change, want nothing", got)
	}
}

// TestSenderOf: only a role's session names an instance.
func TestSenderOf(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"AROAEXAMPLEEXAMPLE123:i-0123456789abcdef0": "i-0123456789abcdef0", "AROAEXAMPLEEXAMPLE123:a:b": "a:b",
		"AIDAEXAMPLEEXAMPLE123": "", "AIDAEXAMPLEEXAMPLE123:i-0123456789abcdef0": "", "": "", "127.0.0.1": "",
	} {
		if got := message(&types.Message{Attributes: map[string]string{"SenderId": id}}).Sender; got != want {
			t.Errorf("%q: got %q, want %q", id, got, want)
		}
	}
}
