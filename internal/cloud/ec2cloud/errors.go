package ec2cloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud"
)

// codes are the error codes of EC2, and of SSM and IAM, that mean one of the port's errors. The first that fits
// counts, and * stands for any end. Codes that all services share (denied, throttled) are in awsconf. Source:
// Amazon EC2 API Reference, "Error codes".
var codes = []struct {
	code   string
	answer error
}{
	{"InsufficientInstanceCapacity", cloud.ErrCapacity},
	{"InsufficientHostCapacity", cloud.ErrCapacity},
	{"InsufficientReservedInstanceCapacity", cloud.ErrCapacity},
	{"InsufficientVolumeCapacity", cloud.ErrCapacity},
	{"InsufficientAddressCapacity", cloud.ErrCapacity},
	{"InsufficientFreeAddressesInSubnet", cloud.ErrCapacity},
	{"InsufficientCapacity*", cloud.ErrCapacity},
	{"InstanceLimitExceeded", cloud.ErrCapacity},
	{"VcpuLimitExceeded", cloud.ErrCapacity},
	{"VolumeLimitExceeded", cloud.ErrCapacity},
	{"NetworkInterfaceLimitExceeded", cloud.ErrCapacity},
	{"ReservationCapacityExceeded", cloud.ErrCapacity},
	{"MaxSpotInstanceCountExceeded", cloud.ErrCapacity},
	{"MaxSpotFleetRequestCountExceeded", cloud.ErrCapacity},
	{"SpotMaxPriceTooLow", cloud.ErrCapacity},
	{"UnfulfillableCapacity", cloud.ErrCapacity},
	{"ResourceCountExceeded", cloud.ErrCapacity},
	{"MaxIOPSLimitExceeded", cloud.ErrCapacity},
	{"MaxScheduledInstanceCapacityExceeded", cloud.ErrCapacity},
	{"PrivateIpAddressLimitExceeded", cloud.ErrCapacity},
	{"Unsupported", cloud.ErrCapacity}, // most often: this availability zone lacks the instance type

	{"IdempotentParameterMismatch", cloud.ErrConflict},
	{"IdempotentInstanceTerminated", cloud.ErrConflict},
	{"OperationNotPermitted", cloud.ErrDenied}, // the instance is protected from termination
	{"Blocked", cloud.ErrDenied},               // the account is
	{"PendingVerification", cloud.ErrDenied},   // so is the account
	{"AuthFailure*", cloud.ErrDenied},

	{"IncorrectInstanceState", cloud.ErrNotStopped},
	{"IncorrectState", cloud.ErrNotStopped}, // of an instance of a spot request that is being stopped

	{"InvalidAMIID.Malformed", cloud.ErrInvalid},
	{"InvalidAMIID.*", cloud.ErrNotFound},
	{"InvalidInstanceID*", cloud.ErrNotFound},
	{"InvalidID", cloud.ErrNotFound}, // CreateTags' word for it
	{"InvalidSnapshot.NotFound", cloud.ErrNotFound},
	{"InvalidSubnetID.NotFound", cloud.ErrNotFound},
	{"InvalidGroup.NotFound", cloud.ErrNotFound},
	{"InvalidSecurityGroupID.NotFound", cloud.ErrNotFound},
	{"InvalidKeyPair.NotFound", cloud.ErrNotFound},
	{"ParameterNotFound", cloud.ErrNotFound},        // SSM
	{"NoSuchEntity", cloud.ErrNotFound},             // IAM, through EC2
	{"ParameterVersionNotFound", cloud.ErrNotFound}, // SSM
	{"InvalidParameter*", cloud.ErrInvalid},
	{"InvalidUserData.*", cloud.ErrInvalid},
	{"InvalidBlockDeviceMapping", cloud.ErrInvalid},
	{"MissingParameter", cloud.ErrInvalid},
	{"UnknownParameter", cloud.ErrInvalid},
	{"UnsupportedOperation", cloud.ErrInvalid},
	{"ValidationError", cloud.ErrInvalid},
	{"ValidationException", cloud.ErrInvalid}, // SSM
}

// meaning returns the port's error that a call's error stands for; nil if it is none of them.
func meaning(err error) error {
	code := awsconf.Code(err)
	for _, c := range codes {
		start, open := strings.CutSuffix(c.code, "*")
		if code == c.code || open && strings.HasPrefix(code, start) {
			return c.answer
		}
	}
	switch {
	case awsconf.Is(err, awsconf.Throttled):
		return cloud.ErrThrottled
	case awsconf.Is(err, awsconf.Denied):
		return cloud.ErrDenied
	case code != "" && refused(err) && !slices.Contains(passing, code):
		return cloud.ErrInvalid
	}
	return nil
}

// passing are codes of refused requests that may be right when they are made again.
var passing = []string{"RequestTimeout", "ConcurrentTagAccess", "ClientRequestThrottled"}

// refused reports whether EC2 found a fault in the request, so that it has done nothing; a fault of its own has
// another status.
func refused(err error) bool {
	answer, ok := errors.AsType[*awshttp.ResponseError](err)
	return ok && answer.HTTPStatusCode()/100 == http.StatusBadRequest/100
}

// classify adds the port's error to the error of a call. An error that means none of the port's errors stays as
// it is: something failed on the way, which leaves open whether the call took effect.
func classify(err error) error {
	m := meaning(err)
	switch {
	case m == nil:
		return err
	case noProfile.MatchString(err.Error()):
		return fmt.Errorf("%w: run controller setup, or correct the pool's instance_profile; "+
			"one that was made just now is not known everywhere yet: %w", m, err)
	}
	return fmt.Errorf("%w: %w", m, err)
}

// noProfile is how EC2 complains about an instance profile: it has no code of its own.
var noProfile = regexp.MustCompile(`(?i)instance ?profile`)

// choosy is a retryer that returns capacity errors at once. EC2 sends them with status 500, which the SDK would
// retry; it is better to try the next subnet.
type choosy struct{ aws.RetryerV2 }

func (c choosy) IsErrorRetryable(err error) bool {
	return !errors.Is(meaning(err), cloud.ErrCapacity) && c.RetryerV2.IsErrorRetryable(err)
}

// done returns the reason if ctx is over.
func done(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
