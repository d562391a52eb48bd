package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"cloudmaster/internal/benchtest"
)

// BenchmarkGrowth is judged by integration/growth: as many requests as there are servers, without a connection.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{300, 3_000} {
		b.Run(fmt.Sprintf("allocation-request/n=%d", n), func(b *testing.B) {
			h, url := benchHandler(b, n), "/v1/pools/fib/allocations"
			defer benchtest.CPU(b)()
			for b.Loop() {
				for range n {
					r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, url, http.NoBody)
					w := httptest.NewRecorder()
					if h.ServeHTTP(w, r); w.Code != http.StatusCreated {
						b.Fatalf("got status %d, want 201", w.Code)
					}
				}
			}
		})
	}
}
