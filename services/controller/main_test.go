package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"cloudmaster/internal/daemon"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"controller": func() { os.Exit(daemon.Main("controller", run)) },
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
