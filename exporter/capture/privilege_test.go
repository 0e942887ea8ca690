package capture

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// packetSocket is the descriptor of a socket that can send, in a process that couldn't
// make one.
const packetSocket = 3

// A capture loads, attaches, counts and follows new devices by either hook with the
// three capabilities alone, the last two of these without CAP_PERFMON.
func TestLeastPrivilege(t *testing.T) {
	for _, hook := range []string{"tcx", "clsact"} {
		t.Run(hook, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				if os.Geteuid() == testutil.Nobody {
					captureUnprivileged(t, hook)
					return
				}
				addVeth(t, "eth0", "wire0")
				socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
				must(t, err)
				file := os.NewFile(uintptr(socket), "packet socket")
				defer file.Close()
				command := exec.Command(testutil.Executable(t, os.Args[0]), "-test.v", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$")
				command.ExtraFiles = []*os.File{file}
				var output bytes.Buffer
				command.Stdout, command.Stderr = &output, &output
				must(t, testutil.StartUnprivileged(command, unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON))
				if err := command.Wait(); err != nil {
					t.Errorf("as an ordinary user: %v\n%s", err, &output)
				}
			})
		})
	}
}

func captureUnprivileged(t *testing.T, hook string) {
	c, seen, stop := start(t, Config{Include: regexp.MustCompile("^eth.*$"), clsact: hook == "clsact"})
	must(t, DropPrivileges())
	want := map[string]uint64{
		"CapEff": 1<<unix.CAP_BPF | 1<<unix.CAP_NET_ADMIN, "CapPrm": 1<<unix.CAP_BPF | 1<<unix.CAP_NET_ADMIN,
		"CapBnd": 1<<unix.CAP_BPF | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_PERFMON, "CapInh": 0, "CapAmb": 0,
	}
	for name, set := range testutil.Capabilities(t, os.Getpid()) {
		if set != want[name] {
			t.Errorf("%s is %#x, want %#x", name, set, want[name])
		}
	}
	waitAttached(t, c, "eth0")
	addVeth(t, "eth1", "wire1")
	waitAttached(t, c, "eth0", "eth1")
	for _, a := range c.Attachments() {
		if a.Hook != hook {
			t.Errorf("attached to %s by %s, want %s", a.Device, a.Hook, hook)
		}
	}
	in := newBatch(0)
	for _, wire := range []string{"wire0", "wire1"} {
		i, err := net.InterfaceByName(wire)
		must(t, err)
		for _, frame := range in.frames {
			must(t, unix.Sendto(packetSocket, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6}))
		}
	}
	testutil.Eventually(t, 20*time.Second, "what was sent is counted", func() bool {
		return seen.total("eth0", flow.Ingress) == in.sum && seen.total("eth1", flow.Ingress) == in.sum
	})
	if out := seen.total("eth0", flow.Egress); out != (epoch.Count{}) {
		t.Errorf("%v went out, want nothing", out)
	}
	must(t, c.Reload(Config{Include: regexp.MustCompile("^eth1$")}))
	waitAttached(t, c, "eth1")
	stop()
}
