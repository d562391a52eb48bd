package ami

import (
	"regexp"
	"strings"
	"testing"
)

// TestControllerReadsWhatItsUnitWrites: the unit of the controller's image writes the file that the controller reads,
// into a directory that systemd makes, and starts the controller again however it ends.
func TestControllerReadsWhatItsUnitWrites(t *testing.T) {
	t.Parallel()
	const dir = "../../deploy/ami/images/controller/"
	dropIn := read(t, dir+"root/etc/systemd/system/cloudmaster.service.d/controller.conf")
	reads := regexp.MustCompile(`(?m)^ARGS="run -c (\S+)"$`).FindStringSubmatch(read(t, dir+"image.env"))
	writes := regexp.MustCompile(`(?m)^ExecStartPre=/usr/lib/cloudmaster/controller user-data (\S+)$`).
		FindStringSubmatch(dropIn)
	if len(reads) == 0 || len(writes) == 0 || reads[1] != writes[1] {
		t.Fatalf("the controller reads %q, and its unit writes %q", reads, writes)
	}
	runtime := regexp.MustCompile(`(?m)^RuntimeDirectory=(\S+)$`).FindStringSubmatch(dropIn)
	if len(runtime) == 0 || !strings.HasPrefix(writes[1], "/run/"+runtime[1]+"/") {
		t.Errorf("the unit writes %q, and may write to %q of /run alone", writes[1], runtime)
	}
	for _, line := range []string{"StateDirectory=cloudmaster", "Restart=always"} {
		if !strings.Contains(dropIn, "\n"+line+"\n") {
			t.Errorf("the unit has no line %s", line)
		}
	}
}
