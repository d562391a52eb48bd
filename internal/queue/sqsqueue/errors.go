package sqsqueue

import (
	"errors"
	"fmt"
	"strings"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/queue"
)

// codes maps SQS's error codes to the port's errors. Codes that all AWS services share (denied,
// throttled) are in awsconf.
var codes = map[string]error{
	"AWS.SimpleQueueService.NonExistentQueue":    queue.ErrNotFound,
	"QueueDoesNotExist":                          queue.ErrNotFound,
	"InvalidAddress":                             queue.ErrNotFound,
	"MessageTooLong":                             queue.ErrTooLarge,
	"BatchRequestTooLong":                        queue.ErrTooLarge,
	"AWS.SimpleQueueService.BatchRequestTooLong": queue.ErrTooLarge,
	"OverLimit":                                  queue.ErrThrottled,
}

// advice says what to do next, for codes that do not make it obvious.
var advice = map[string]string{
	"QueueDeletedRecently":                        "a queue of this name was deleted less than 60 s ago, wait a minute",
	"AWS.SimpleQueueService.QueueDeletedRecently": "a queue of this name was deleted less than 60 s ago, wait a minute",
}

// notThere says what to do next when a queue does not exist.
const notThere = "controller setup makes the queues of a deployment"

// classify wraps an error in the port's error of the same meaning, if there is one.
func classify(err error) error {
	if err == nil {
		return nil
	}
	code := awsconf.Code(err)
	switch {
	case errors.Is(codes[code], queue.ErrNotFound):
		return fmt.Errorf("%w (%s): %w", queue.ErrNotFound, notThere, err)
	case codes[code] != nil:
		return fmt.Errorf("%w: %w", codes[code], err)
	case awsconf.Is(err, awsconf.Throttled):
		return fmt.Errorf("%w: %w", queue.ErrThrottled, err)
	case awsconf.Is(err, awsconf.Denied):
		return fmt.Errorf("%w: %w", queue.ErrDenied, err)
	case advice[code] != "":
		return fmt.Errorf("%s: %w", advice[code], err)
	}
	return err
}

// stale reports whether an entry of a batch failed because its receipt is out of date: the message
// was deleted, or delivered again. For the port this is not an error.
func stale(code, text string) bool {
	switch code {
	case "ReceiptHandleIsInvalid", "InvalidReceiptHandle",
		"MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight":
		return true
	}
	return strings.HasPrefix(code, "InvalidParameterValue") &&
		(strings.Contains(text, "ReceiptHandle") || strings.Contains(text, "not available for visibility"))
}
