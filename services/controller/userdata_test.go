package main

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// metadata is an instance metadata service of version 2 whose instance has this user data.
func metadata(t *testing.T, userData string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
			io.WriteString(w, "token") //nolint:errcheck // the client sees it
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/latest/user-data" && userData != "":
			io.WriteString(w, userData) //nolint:errcheck // the client sees it
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(srv.Close)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", srv.URL)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
}

func TestUserDataBecomeTheConfiguration(t *testing.T) {
	sample, err := os.ReadFile("../../deploy/aws/cloudmaster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const old = "old"
	for name, c := range map[string]struct{ userData, want string }{
		"the sample": {string(sample), ""},
		"none":       {"", "was launched without user data"},
		"a script":   {"#!/bin/sh\nreboot\n", "the configuration cannot be used"},
		"compressed": {"\x1f\x8b\x08\x00", "the configuration cannot be used"},
		"cut off":    {string(sample[:len(sample)/2]) + "\n  x", "the configuration cannot be used"},
	} {
		t.Run(name, func(t *testing.T) {
			metadata(t, c.userData)
			file := filepath.Join(t.TempDir(), "controller.yaml")
			if err := os.WriteFile(file, []byte(old), 0o644); err != nil {
				t.Fatal(err)
			}
			err := run(t.Context(), []string{"user-data", file}, io.Discard, io.Discard)
			got, readErr := os.ReadFile(file)
			info, statErr := os.Stat(file)
			if readErr != nil || statErr != nil {
				t.Fatal(readErr, statErr)
			}
			if c.want == "" {
				if err != nil || !bytes.Equal(got, sample) || info.Mode() != fs.FileMode(0o600) {
					t.Errorf("got %v and a file of mode %s:\n%s", err, info.Mode(), got)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) || string(got) != old {
				t.Errorf("got %v and file %q, want %q in it and the file unchanged", err, got, c.want)
			}
			if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
				t.Errorf("got %v (%v) in the directory, want the file alone", entries, err)
			}
		})
	}
}
