package app_test

import (
	"encoding/json"
	"testing"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/blob"
	"cloudmaster/services/controller/internal/lease"
)

// holdLease writes the lease of another controller into the store at address.
func holdLease(t *testing.T, address string, h lease.Holder) {
	t.Helper()
	back, err := backend.Open(t.Context(), address, backend.Openers{"nats": natsbackend.Open}, backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = back.Close() })
	blobs, err := back.Blobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blobs.Put(t.Context(), lease.Key, doc, blob.Any); err != nil {
		t.Fatal(err)
	}
}
