package sqsqueue

import (
	"errors"
	"fmt"
	"strings"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/queue"
)

// codes are SQS's error codes that mean one of the port's errors. Those that all
// services share (denied, throttled) are in awsconf.
var codes = map[string]error{
	"AWS.SimpleQueueService.NonExistentQueue":    queue.ErrNotFound,
	"QueueDoesNotExist":                          queue.ErrNotFound,
	"InvalidAddress":                             queue.ErrNotFound,
	"MessageTooLong":                             queue.ErrTooLarge,
	"BatchRequestTooLong":                        queue.ErrTooLarge,
	"AWS.SimpleQueueService.BatchRequestTooLong": queue.ErrTooLarge,
	"OverLimit":                                  queue.ErrThrottled,
}

// advice is the next step where the code alone does not tell it.
var advice = map[string]string{
	"QueueDeletedRecently":                        "a queue of this name was deleted less than 60 s ago, wait a minute",
	"AWS.SimpleQueueService.QueueDeletedRecently": "a queue of this name was deleted less than 60 s ago, wait a minute",
}

// notThere is the next step where there is no queue.
const notThere = "controller setup makes the queues of a deployment"

// classify wraps an error in the port's, if it is one of them.
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

// stale reports whether a batch entry failed because its receipt holds no message any
// more: it was deleted, or delivered again. The port calls that no error.
func stale(code, text string) bool {
	switch code {
	case "ReceiptHandleIsInvalid", "InvalidReceiptHandle", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight":
		return true
	}
	return strings.HasPrefix(code, "InvalidParameterValue") && (strings.Contains(text, "ReceiptHandle") || strings.Contains(text, "not available for visibility"))
}
