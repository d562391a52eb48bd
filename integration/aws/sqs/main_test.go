package sqs_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain runs more tests at once than there are processors, because those of the conformance suite mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
