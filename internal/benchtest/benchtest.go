// Package benchtest helps benchmarks whose figures are judged by a program.
package benchtest

import (
	"syscall"
	"testing"
	"time"
)

// CPU measures the processor time of a benchmark from here until done is called, and reports it as "cpu-ns/op". Unlike
// the time on the wall it leaves out how long other programs had the processor.
func CPU(b *testing.B) (done func()) {
	b.Helper()
	start := Spent(b)
	return func() { b.ReportMetric(float64(Spent(b)-start)/float64(b.N), "cpu-ns/op") }
}

// Spent returns the processor time that this process has used, for benchmarks that measure in parts.
func Spent(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
