package ami

import (
	"testing"

	"cloudmaster/internal/message"
)

// TestPrimes is the life of a worker: it boots, does a job, and is powered off in the middle of
// another. After the next power-on that job is done, exactly once.
func TestPrimes(t *testing.T) {
	needImage(t, "primes")
	w := onNATS(t)
	w.powerOn()
	w.wantQuickStart(w.wantStatus(0, message.Idle))
	w.wantEC2()

	mark := w.heard.mark()
	w.send("1|6573")
	w.wantLog(mark, "Processed: 1 6573 primes (65809)")
	w.wantBacklog(0)
	w.wantStatus(mark, message.Busy)
	w.wantNewestStatus(message.Idle) // else it goes from job to job, and has no new status to send

	const job, result = "2 2000000000", "(47055833459)"
	mark = w.heard.mark()
	w.send("2|2000000000") // takes longer than the worker may take to stop
	w.wantLog(mark, "Processing: "+job)
	w.wantStatus(mark, message.Busy)
	w.pressPower()
	w.wantOff()
	w.wantLog(mark, "Handed back: "+job)
	w.wantBacklog(1)
	w.wantStoppedWell()

	mark = w.heard.mark()
	w.powerOn()
	w.wantStatus(mark, message.Idle)
	w.wantLog(mark, "Processed: "+job+" primes "+result)
	w.wantBacklog(0)
	if times := w.heard.count("Processed: 2 "); times != 1 {
		t.Errorf("job 2: got %d results, want 1", times)
	}
}

// TestPrimesWithoutUserData: one clear line, on the console and in the journal, says what is wrong
// with user data; once they are right, the worker works. A script as user data is refused and not run.
func TestPrimesWithoutUserData(t *testing.T) {
	needImage(t, "primes")
	w := onNATS(t)
	right := w.userData(t)
	w.metadata.SetUserData("#!/bin/sh\ntouch /etc/owned\n")
	w.powerOn()
	me := "primes-worker: instance " + instanceID
	script := w.wantSaid(me, "user data: yaml: line 2: cannot unmarshal", "AWS_EC2_METADATA_DISABLED")
	w.wantAgain(script)
	w.wantEC2()

	w.metadata.SetUserData("")
	none := w.wantSaid("primes-worker: no user data", "instance "+instanceID+" was launched without")
	w.metadata.SetUserData("pool: guest\n")
	half := w.wantSaid(me, "user data: missing: backend, queues.status")

	w.metadata.SetUserData(right)
	w.wantStatus(0, message.Idle)
	w.send("1|6573")
	w.wantLog(0, "Processed: 1 6573 primes (65809)")

	w.pressPower()
	w.wantOff()
	journal := w.journal()
	for _, l := range []line{script, none, half} {
		wantOne(t, journal, l)
	}
	if w.has("/etc/owned") {
		t.Error("a script in the user data was run as root")
	}
	if !w.has("/etc/passwd") {
		t.Error("has reports that the disk has no /etc/passwd: has does not work")
	}
}
