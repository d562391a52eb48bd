package memblob_test

import (
	"errors"
	"testing"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/blobtest"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/faults"
)

func TestConformance(t *testing.T) {
	blobtest.Run(t, blobtest.Harness{Make: func(*testing.T) blob.Store { return memblob.New() }})
}

var errInjected = errors.New("injected")

func TestFaults(t *testing.T) {
	t.Parallel()
	s := memblob.New()
	put := func() error {
		_, err := s.Put(t.Context(), "k", []byte("x"), blob.Any)
		return err
	}
	get := func() error {
		_, err := s.Get(t.Context(), "k", "")
		return err
	}
	check := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}

	s.NextError(memblob.OpPut, errInjected)
	check("get beside a fault of put", get(), blob.ErrNotFound)
	check("put that fails", put(), errInjected)
	check("get after it", get(), blob.ErrNotFound)

	s.NextLost(faults.Any, errInjected)
	check("put whose answer is lost", put(), errInjected)
	check("get after it", get(), nil)

	s.FailAfter(memblob.OpGet, 1, errInjected)
	check("the call that passes", get(), nil)
	check("the first that fails", get(), errInjected)
	check("the second that fails", get(), errInjected)
	s.Heal()
	check("get after healing", get(), nil)
}
