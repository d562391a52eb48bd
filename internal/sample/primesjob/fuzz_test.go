package primesjob_test

import (
	"testing"

	"cloudmaster/internal/sample/primesjob"
)

func FuzzParse(f *testing.F) {
	for _, body := range []string{
		"1|6573", "1|6573\r\n", "abc", "1|", "1|-5", "1|0", "1|99999999999", "\xff|1", "007|007",
	} {
		f.Add([]byte(body), primesjob.DefaultCeiling)
	}
	f.Fuzz(func(t *testing.T, body []byte, ceiling int) {
		j, err := primesjob.Parse(body, ceiling)
		if err != nil {
			if len(err.Error()) > 1500 {
				t.Errorf("got an error of %d bytes: %v", len(err.Error()), err)
			}
			return
		}
		if j.N < 1 || j.N > ceiling {
			t.Errorf("got N %d, want 1 to %d", j.N, ceiling)
		}
		if again, err := primesjob.Parse(j.Encode(), ceiling); err != nil || again != j {
			t.Errorf("written and read again: %+v, %v, want %+v", again, err, j)
		}
	})
}
