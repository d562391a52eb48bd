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

// TestADeploymentsQueuesAreNotDeadLettersOfAnother: primes-work-x-dead would be the work queue of the one and hold the
// dead letters of the other.
func TestADeploymentsQueuesAreNotDeadLettersOfAnother(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]string{"x-dead": "x", "dead": "", "dead-x": "none", "undead": "none"} {
		_, err := parse("deployment: " + name + "\nbackend: embedded\nclouds: {c: {type: ec2, region: eu-west-1}}\n" +
			"pools: {a: {image: i, cloud: c}}\n")
		want := `of the dead letters of deployment "` + of + `": choose another name`
		if got := err != nil && strings.Contains(err.Error(), want); got != (of != "none") {
			t.Errorf("%s: got %v, want %q: %v", name, err, want, of != "none")
		}
	}
}
