package ami

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloudmaster/integration/program"
)

// patience is how long a test waits for an expected event. It is long because the machine is
// emulated, and may share its host with others.
const patience = 4 * time.Minute

// Addresses in the guest's network. The guest can reach nothing but the servers that qemu forwards.
const (
	guestNet     = "169.254.0.0/16"
	guestFirst   = "169.254.10.15"
	guestRouter  = "169.254.0.2"
	guestServer  = "169.254.169.254" // the metadata service, and on other ports the broker
	metadataPort = 80
	brokerPort   = 4222
	sqsPort      = 4566
	guestMAC     = "02:00:00:00:00:01"
	guestFibPort = 20808
	ec2UUID      = "ec2e1916-9099-7caf-fd21-012345abcdef" // the uuids of EC2 instances begin like this
	// Mitigations are expensive on an emulated processor, and the guest needs none here.
	kernelOptions = "root=/dev/vda rw console=ttyS0 loglevel=5 mitigations=off systemd.show_status=yes"
)

// guest is a machine that runs. It can be powered off, and on again with the same disk.
type guest struct {
	t       *testing.T
	args    []string
	control string // socket for QEMU's commands

	cmd   *exec.Cmd
	began time.Time
	off   chan struct{} // closed when the machine is off

	mu      sync.Mutex
	console []line // guarded by mu
}

// consoleTail is how many lines of the console a failure shows.
const consoleTail = 400

// pressAgain is how long to wait before the power button is pressed once more.
const pressAgain = 10 * time.Second

// line is one line of the guest's console, with the time at which it came.
type line struct {
	at   time.Time
	text string
}

// qemu returns the arguments for a machine like those of EC2. servers maps ports of guestServer to
// addresses on the host; forward maps ports of the host to ports of the guest.
func qemu(disk, control, pipe string, servers map[int]string, forward map[int]int) []string {
	network := fmt.Sprintf("user,id=net,restrict=on,ipv6=off,net=%s,host=%s,dhcpstart=%s",
		guestNet, guestRouter, guestFirst)
	for port, addr := range servers {
		network += fmt.Sprintf(",guestfwd=tcp:%s:%d-cmd:%s %s", guestServer, port, pipe, addr)
	}
	for host, port := range forward {
		network += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-%s:%d", host, guestFirst, port)
	}
	dir := os.Getenv(dirVar)
	return []string{
		"-accel", "tcg,thread=multi", "-machine", "pc", "-cpu", "qemu64", "-smp", "2", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
		"-qmp", "unix:" + control + ",server=on,wait=off",
		"-smbios", "type=1,manufacturer=Amazon EC2,product=t3.micro,uuid=" + ec2UUID + ",serial=" + ec2UUID,
		"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd.img"), "-append", kernelOptions,
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file=" + disk, "-device", "virtio-blk-pci,drive=disk",
		"-netdev", network, "-device", "virtio-net-pci,netdev=net,mac=" + guestMAC, "-device", "virtio-rng-pci",
	}
}

// powerOn starts the machine, which is killed when the test ends.
func (g *guest) powerOn() {
	g.t.Helper()
	_ = os.Remove(g.control) // left over from before a power-off
	g.cmd = exec.Command("qemu-system-x86_64", g.args...)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	g.cmd.Stderr = g.cmd.Stdout
	g.mu.Lock()
	g.console = nil
	g.mu.Unlock()
	g.began, g.off = time.Now(), make(chan struct{})
	if err := g.cmd.Start(); err != nil {
		g.t.Fatalf("start QEMU: %v", err)
	}
	cmd, off := g.cmd, g.off
	go func() {
		defer close(off)
		g.read(out)
		_ = cmd.Wait() // if the machine ends too early, whoever waits for it reports that
	}()
	g.t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails if it is off, which is fine
		<-off
	})
}

func (g *guest) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		g.mu.Lock()
		g.console = append(g.console, line{time.Now(), strings.TrimRight(lines.Text(), "\r")})
		g.mu.Unlock()
	}
}

// said returns the first line of the console that contains all the parts.
func (g *guest) said(parts ...string) (line, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.console {
		if _, ok := program.Find([]string{l.text}, parts...); ok {
			return l, true
		}
	}
	return line{}, false
}

// lastSaid returns the last line of the console that contains the text.
func (g *guest) lastSaid(text string) (line, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range slices.Backward(g.console) {
		if strings.Contains(l.text, text) {
			return l, true
		}
	}
	return line{}, false
}

// wantSaid waits for a line on the console that contains all the parts.
func (g *guest) wantSaid(parts ...string) line {
	g.t.Helper()
	var found line
	g.until("the console says "+strings.Join(parts, " … "), func() (ok bool) {
		found, ok = g.said(parts...)
		return ok
	})
	return found
}

// until waits for something that can only happen while the guest runs.
func (g *guest) until(what string, look func() bool) {
	g.t.Helper()
	seen := program.Until(g.t.Context(), patience, func() (string, bool) { return "", look() })
	if seen.Err != nil {
		g.t.Fatalf("%s: %v\n%s", what, seen.Err, g.tail())
	}
}

// tail returns the end of the console, for the message of a failure.
func (g *guest) tail() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out strings.Builder
	out.WriteString("--- the guest's console:\n")
	for _, l := range g.console[max(0, len(g.console)-consoleTail):] {
		fmt.Fprintf(&out, "%7.2fs %s\n", l.at.Sub(g.began).Seconds(), l.text)
	}
	return out.String()
}

// pressPower presses the machine's power button, and presses again until the guest reacts:
// systemd-logind, which handles the button, may not have started yet.
func (g *guest) pressPower() {
	g.t.Helper()
	first, last := time.Now(), time.Time{}
	g.until("the guest stops its services", func() bool {
		if time.Since(last) > pressAgain {
			if err := command(g.control, "system_powerdown"); err != nil {
				g.t.Fatalf("press the power button: %v\n%s", err, g.tail())
			}
			last = time.Now()
		}
		l, ok := g.lastSaid("Stopp")
		return ok && l.at.After(first)
	})
}

// wantOff waits until the machine has powered itself off.
func (g *guest) wantOff() {
	g.t.Helper()
	g.until("the guest powers off", func() bool {
		select {
		case <-g.off:
			return true
		default:
			return false
		}
	})
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		g.t.Fatalf("QEMU: got exit code %d, want 0\n%s", code, g.tail())
	}
}

// command gives QEMU one command by its machine protocol (QMP).
func command(socket, name string) error {
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing more is to be said
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	answers := bufio.NewScanner(conn)
	answers.Scan() // QEMU's greeting
	for _, c := range []string{"qmp_capabilities", name} {
		if _, err := fmt.Fprintf(conn, "{\"execute\": %q}\n", c); err != nil {
			return err
		}
		for answered := false; !answered; { // events may come before the answer
			if !answers.Scan() {
				return fmt.Errorf("%s: no answer: %w", c, answers.Err())
			}
			answered = strings.Contains(answers.Text(), `"return"`)
			if strings.Contains(answers.Text(), `"error"`) {
				return fmt.Errorf("%s: %s", c, answers.Text())
			}
		}
	}
	return nil
}
