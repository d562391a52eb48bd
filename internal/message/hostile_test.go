package message_test

import (
	"fmt"
	"strings"
	"testing"

	"cloudmaster/internal/message"
)

// hostile is messages of the given size that are hard on a reader of YAML, by what they are full of.
func hostile(size int) map[string][]byte {
	full := func(head string, unit func(n int) string) []byte {
		var b strings.Builder
		b.WriteString(":type: status\n" + head)
		for n := 0; ; n++ {
			u := unit(n)
			if b.Len()+len(u) > size {
				return []byte(b.String())
			}
			b.WriteString(u)
		}
	}
	always := func(text string) func(int) string { return func(int) string { return text } }
	return map[string][]byte{
		"merges":     full(":y: &a {b: c}\n", always("<<: *a\n")),
		"same keys":  full("", always("a: \n")),
		"keys":       full("", func(n int) string { return fmt.Sprintf("%d: \n", n) }),
		"aliases":    full(":y: &a x\n", func(n int) string { return fmt.Sprintf("k%d: *a\n", n) }),
		"comments":   full("", func(n int) string { return fmt.Sprintf("k%d: #c\n#d\n", n) }),
		"maps":       full(":x: ", always("{a: ")),
		"lists":      full(":x: ", always("[a: ")),
		"list":       full(":x: [", always("a,")),
		"dashes":     full(":x:\n ", always("- ")),
		"questions":  full(":x:\n ", always("? ")),
		"text":       full(":message: ", always("a")),
		"bad JSON":   full("", always("{")),
		"mixed tags": full("", func(n int) string { return fmt.Sprintf("k%d: !!int &a%d x\n", n, n) }),
	}
}

// TestHostileYAMLCostsLittle: a few messages of the largest size must not keep the controller from all others. What is
// longer than YAML may be is not parsed at all; the rest allocates a few times for each byte (the bound is twice what
// the worst of them takes). BenchmarkHostileYAML has times.
func TestHostileYAMLCostsLittle(t *testing.T) { //nolint:paralleltest // allocations of other tests would count
	for size, most := range map[int]float64{message.MaxYAML: 4 * message.MaxYAML, message.MaxSize: 20} {
		for name, body := range hostile(size) {
			var m message.Message
			var err error
			if got := testing.AllocsPerRun(1, func() { m, err = message.ParseStd(body) }); got > most {
				t.Errorf("%s, %d bytes: got %.0f allocations, want %.0f at most", name, size, got, most)
			}
			if err == nil {
				t.Errorf("%s: got %+v, want an error", name, m)
			}
		}
	}
}

// TestTheLongestTextFitsIntoYAML, and the largest status does so many times.
func TestTheLongestTextFitsIntoYAML(t *testing.T) {
	t.Parallel()
	id, text := strings.Repeat("i", 128), strings.Repeat("x", message.MaxText)
	tail := ":instance_id: " + id + "\n:timestamp: 2008-10-22 10:00:00.123456789 -04:00\n" +
		":sequence: 18446744073709551615\n"
	if m, err := message.ParseStd([]byte(":type: log\n:message: " + text + "\n" + tail)); err != nil {
		t.Errorf("log: got %+v, %v", m, err)
	}
	body := ":type: status\n:state: draining\n:status: busy\n:load_estimate: 0.30000000000000004\n" +
		":address: \"" + strings.Repeat("h", 253) + ":65535\"\n" + tail
	if m, err := message.ParseStd([]byte(body)); err != nil || len(body) > message.MaxYAML/10 {
		t.Errorf("status of %d bytes: got %+v, %v", len(body), m, err)
	}
}

// BenchmarkHostileYAML takes the largest messages that are parsed at all.
func BenchmarkHostileYAML(b *testing.B) {
	for name, body := range hostile(message.MaxYAML) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := message.ParseStd(body); err == nil {
					b.Fatal("it was read")
				}
			}
		})
	}
}
