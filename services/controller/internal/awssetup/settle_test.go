package awssetup

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"
)

// coded is an error as AWS answers it.
func coded(code string) error { return &smithy.GenericAPIError{Code: code, Message: "no"} }

func TestSettledWaitsForWhatIsNotKnownYet(t *testing.T) {
	t.Parallel()
	for _, code := range []string{
		"NoSuchEntity", "ConcurrentModification", "EntityTemporarilyUnmodifiable", "DeleteConflict",
		"InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound", "DependencyViolation",
	} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			err := settled(t.Context(), func(context.Context) error {
				if calls++; calls < 4 {
					return coded(code)
				}
				return nil
			})
			if err != nil || calls != 4 {
				t.Errorf("%s three times: got %v after %d calls, want success at the fourth", code, err, calls)
			}
		})
	}
}

func TestSettledIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun, calls := time.Now(), 0
		err := settled(t.Context(), func(context.Context) error {
			calls++
			return coded("NoSuchEntity")
		})
		took := time.Since(begun)
		if err == nil || !strings.Contains(err.Error(), "still so after ") || took < settleFor-mostPause ||
			took > settleFor || calls < 8 || calls > 40 {
			t.Errorf("for ever: got %v after %s and %d calls, want an end within %s", err, took, calls, settleFor)
		}
	})
}

func TestSettledPassesOtherErrorsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		for _, want := range []error{errSky, coded("AccessDenied"), coded("EntityAlreadyExists")} {
			if err := settled(t.Context(), func(context.Context) error { return want }); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("waited %s for errors that do not pass", took)
		}
	})
}

func TestSettledEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-time.After(3 * time.Second)
			cancel(errSky)
		}()
		begun := time.Now()
		err := settled(ctx, func(context.Context) error { return coded("NoSuchEntity") })
		if !errors.Is(err, errSky) || time.Since(begun) != 3*time.Second {
			t.Errorf("got %v after %s, want %v after 3s", err, time.Since(begun), errSky)
		}
	})
}
