package s3blob

import (
	"errors"
	"fmt"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob"
)

// codeNoKey tells a missing object from a missing bucket.
const codeNoKey = "NoSuchKey"

// codes are S3's error codes that mean one of the port's errors. Those that all services
// share (denied, throttled) are in awsconf.
var codes = map[string]error{
	codeNoKey:                    blob.ErrNotFound,
	"NoSuchBucket":               blob.ErrNotFound,
	"NotFound":                   blob.ErrNotFound, // of HEAD, which has no body
	"PreconditionFailed":         blob.ErrConflict,
	"ConditionalRequestConflict": blob.ErrConflict,
	"NotModified":                blob.ErrNotModified,
	"EntityTooLarge":             blob.ErrTooLarge,
	"BucketAlreadyExists":        blob.ErrDenied, // names are global: it is somebody else's
}

// classify wraps an error in the port's, if it is one of them.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if awsconf.Code(err) == "NoSuchBucket" {
		return fmt.Errorf("%w (controller setup makes a deployment's bucket): %w", blob.ErrNotFound, err)
	}
	switch known := codes[awsconf.Code(err)]; {
	case known != nil:
		return fmt.Errorf("%w: %w", known, err)
	case awsconf.Is(err, awsconf.Denied), status(err) == http.StatusForbidden:
		return fmt.Errorf("%w: %w", blob.ErrDenied, err)
	case awsconf.Is(err, awsconf.Throttled):
		return fmt.Errorf("%w: %w", blob.ErrThrottled, err)
	case status(err) == http.StatusNotModified: // it has no body and so no code
		return fmt.Errorf("%w: %w", blob.ErrNotModified, err)
	}
	return err
}

func status(err error) int {
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}
