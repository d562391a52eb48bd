package awsconf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

var (
	regionForm = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)
	bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	appIDForm  = regexp.MustCompile(`[^A-Za-z0-9._-]`)
)

// appID returns what stands for a program in the user agent.
func appID(client string) string {
	name, _, _ := strings.Cut(client, " ")
	if name == "" {
		return "cloudmaster"
	}
	return "cloudmaster-" + appIDForm.ReplaceAllString(name, "-")
}

// count returns middleware that calls f for every try of every call, because tries are what AWS charges and limits.
func count(f func(service, operation string, err error)) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		if f == nil {
			return nil
		}
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("CloudMasterCount",
			func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
				middleware.FinalizeOutput, middleware.Metadata, error,
			) {
				out, meta, err := next.HandleFinalize(ctx, in)
				f(strings.ToLower(awsmiddleware.GetServiceID(ctx)), awsmiddleware.GetOperationName(ctx), err)
				return out, meta, err
			}), "Retry", middleware.After)
	}
}

// plainBody hides the WriteTo method of a request's body, so that net/http can only read the body.
//
// The SDK closes a body as soon as the answer begins. If the body is writing itself to the connection at that moment,
// net/http takes the writing for failed and cuts the connection in the middle of the answer. The SDK then repeats a
// call that AWS has carried out: instances are launched twice, or messages are received that stay in flight although
// nobody has them. Closing a body that is only read does no such harm. Source: aws-sdk-go-v2, issue 2737.
func plainBody(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("CloudMasterBody",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
			middleware.FinalizeOutput, middleware.Metadata, error,
		) {
			if req, ok := in.Request.(*smithyhttp.Request); ok {
				if body, ok := req.GetStream().(io.ReadSeeker); ok {
					plain, err := req.SetStream(struct{ io.ReadSeeker }{body})
					if err != nil {
						return middleware.FinalizeOutput{}, middleware.Metadata{},
							fmt.Errorf("set the body of a request: %w", err)
					}
					in.Request = plain
				}
			}
			return next.HandleFinalize(ctx, in)
		}), middleware.Before)
}

// explain returns middleware that adds to errors what the operator can do about them.
func explain(client, policyFile string) func(*middleware.Stack) error {
	program, _, _ := strings.Cut(client, " ")
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("CloudMasterExplain",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
				middleware.InitializeOutput, middleware.Metadata, error,
			) {
				out, meta, err := next.HandleInitialize(ctx, in)
				switch {
				case err == nil:
				case Is(err, Denied) && program != "":
					err = explainDenied(program, policyFile, awsmiddleware.GetServiceID(ctx),
						awsmiddleware.GetOperationName(ctx), err)
				case unknownHost(err):
					err = fmt.Errorf("%s has no host of this name in region %s; check the region: %w",
						awsmiddleware.GetServiceID(ctx), awsmiddleware.GetRegion(ctx), err)
				}
				return out, meta, err
			}), middleware.Before)
	}
}

func unknownHost(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}

// Class is a class of errors that all AWS services share. Other errors are classified by each adapter, with a table of
// its own.
type Class int

// The classes. The zero value is none of them.
const (
	Other Class = iota
	Throttled
	Denied
)

// denied are the codes of calls for which the rights are missing.
var denied = map[string]bool{
	"AccessDenied": true, "AccessDeniedException": true, "UnauthorizedOperation": true,
	"AuthorizationError": true, "OptInRequired": true,
	"AllAccessDisabled": true, "AccountProblem": true, "KMS.AccessDeniedException": true, "Forbidden": true,
}

// unknownCredentials are the codes of credentials that are wrong or have run out: an IAM policy would not help.
var unknownCredentials = map[string]bool{
	"AuthFailure": true, "InvalidClientTokenId": true, "UnrecognizedClientException": true,
	"SignatureDoesNotMatch": true, "InvalidSignatureException": true, "InvalidAccessKeyId": true,
	"ExpiredToken": true, "ExpiredTokenException": true, "RequestExpired": true,
}

// Is reports whether an error is of a class that all services share.
func Is(err error, class Class) bool { return class == classOf(err) }

func classOf(err error) Class {
	code := Code(err)
	switch {
	case denied[code], unknownCredentials[code]:
		return Denied
	case throttledToo[code], code != "" && throttles.IsErrorThrottle(err) == aws.TrueTernary:
		return Throttled
	}
	return Other
}

// throttles knows the codes that the SDK takes for throttling.
var throttles = retry.IsErrorThrottles(retry.DefaultThrottles)

// throttledToo are codes of throttling that the SDK does not know.
var throttledToo = map[string]bool{"SlowDown": true, "RequestThrottled": true, "KmsThrottled": true}

// Code returns the error code that a service answered, or "".
func Code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}
