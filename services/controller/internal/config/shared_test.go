package config_test

import (
	"strings"
	"testing"
)

// TestAPoolsQueueIsNotTheDeployments: hints on a work queue would be jobs.
func TestAPoolsQueueIsNotTheDeployments(t *testing.T) {
	t.Parallel()
	_, err := parse("deployment: hints\nbackend: aws://eu-west-1\nclouds: {c: {type: ec2}}\n" +
		"pools: {a: {image: i, cloud: c, work_queue_name: cloudmaster-hints}}\n")
	want := "pools.a.work_queue_name: cloudmaster-hints-hints is already the queue of the deployment's hints"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
