package s3blob

import (
	"errors"
	"fmt"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob"
)

// codeNoKey means that the object is missing. Without it a 404 means that the bucket is.
const codeNoKey = "NoSuchKey"

// codes maps S3's error codes to the port's errors. Codes that all AWS services share (denied,
// throttled) are in awsconf.
var codes = map[string]error{
	codeNoKey:                    blob.ErrNotFound,
	"NoSuchBucket":               blob.ErrNotFound,
	"NotFound":                   blob.ErrNotFound, // the answer to a HEAD, which has no body with a more exact code
	"PreconditionFailed":         blob.ErrConflict,
	"ConditionalRequestConflict": blob.ErrConflict,
	"NotModified":                blob.ErrNotModified,
	"EntityTooLarge":             blob.ErrTooLarge,
	"BucketAlreadyExists":        blob.ErrDenied, // names are global: the bucket belongs to another account
}

// classify wraps an error in the port's error of the same meaning, if there is one.
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
	case status(err) == http.StatusNotModified: // this answer has no body, and therefore no code
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
