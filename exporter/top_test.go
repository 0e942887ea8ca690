package main

import (
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/exporter/api"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// topEpoch is an epoch of a few flows that ended just now.
func topEpoch(sequence uint64) *epoch.Epoch {
	e := &epoch.Epoch{Host: "host-a", Sequence: sequence, End: time.Now()}
	e.Start = e.End.Add(-500 * time.Millisecond)
	device := epoch.Device{Name: "eth0", Direction: flow.Egress}
	for i := range byte(40) {
		f := epoch.Flow{
			Key: flow.Key{
				Source: netip.AddrFrom4([4]byte{10, 0, 0, i}).As16(), Destination: netip.AddrFrom4([4]byte{10, 1, 0, 1}).As16(),
				SourcePort: 40000 + uint16(i), DestinationPort: 443, Protocol: flow.ProtocolTCP,
			},
			Direction: flow.Egress, Count: epoch.Count{Packets: 10, Bytes: 1_000_000 - uint64(i)*1000},
		}
		e.Flows = append(e.Flows, f)
		device.Total.Add(f.Count)
	}
	e.Devices = []epoch.Device{device}
	return e
}

// serveEpochs serves a made epoch from an exporter's handler.
func serveEpochs(t *testing.T) (address string) {
	t.Helper()
	history := window.NewHistory(window.HistoryConfig{Flows: 1000, Retention: time.Minute, MaxBytes: 1 << 20})
	if err := history.Add(topEpoch(1)); err != nil {
		t.Fatal(err)
	}
	handler, err := api.New(api.Config{Boot: [16]byte{1}, History: history})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// terminal is a pseudo terminal with the program in it, and what it draws.
type terminal struct {
	*testing.T
	ours, theirs *os.File
	command      *exec.Cmd
	before       unix.Termios

	mu     sync.Mutex
	screen vt10x.Terminal
	raw    strings.Builder
}

func startInTerminal(t *testing.T, environment []string, args ...string) *terminal {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	x := &terminal{T: t, ours: ours, theirs: theirs, screen: vt10x.New(vt10x.WithSize(80, 24))}
	x.resize(80, 24)
	x.before = x.modes()
	x.command = exec.CommandContext(t.Context(), os.Args[0], args...)
	x.command.Env = append(append(os.Environ(), asProgram+"=1", "TERM=xterm-256color", "NO_COLOR="), environment...)
	x.command.Stdin, x.command.Stdout, x.command.Stderr = theirs, theirs, theirs
	x.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.command.Start(); err != nil {
		t.Fatal(err)
	}
	go x.read()
	return x
}

// read draws what the program writes.
func (x *terminal) read() {
	buffer := make([]byte, 1<<16)
	for {
		n, err := x.ours.Read(buffer)
		x.mu.Lock()
		x.screen.Write(buffer[:n])
		x.raw.Write(buffer[:n])
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (x *terminal) modes() unix.Termios {
	x.Helper()
	modes, err := unix.IoctlGetTermios(int(x.theirs.Fd()), unix.TCGETS)
	if err != nil {
		x.Fatal(err)
	}
	return *modes
}

func (x *terminal) resize(width, height int) {
	x.Helper()
	if err := pty.Setsize(x.ours, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		x.Fatal(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.screen.Resize(width, height)
}

func (x *terminal) drawn() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.screen.String()
}

func (x *terminal) written() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.raw.String()
}

// press writes keys, after which the screen shows a text.
func (x *terminal) press(keys, want string) {
	x.Helper()
	if _, err := x.ours.WriteString(keys); err != nil {
		x.Fatal(err)
	}
	x.shows(want)
}

func (x *terminal) shows(want string) {
	x.Helper()
	defer func() {
		if x.Failed() {
			x.Log(x.drawn())
		}
	}()
	testutil.Eventually(x, 20*time.Second, "on the screen: "+want, func() bool { return strings.Contains(x.drawn(), want) })
}

// ends checks that the program ends with an exit code and leaves the terminal as it was.
func (x *terminal) ends(code int) {
	x.Helper()
	err := x.command.Wait()
	if got := x.command.ProcessState.ExitCode(); got != code {
		x.Errorf("exit code %d (%v), want %d:\n%s", got, err, code, x.drawn())
	}
	if after := x.modes(); after != x.before {
		x.Errorf("the terminal's modes were %+v and are %+v", x.before, after)
	}
	testutil.Eventually(x, 10*time.Second, "the ordinary screen and the cursor are back", func() bool {
		raw := x.written()
		back := strings.LastIndex(raw, "\x1b[?1049l") > strings.LastIndex(raw, "\x1b[?1049h")
		return back && strings.LastIndex(raw, "\x1b[?25h") > strings.LastIndex(raw, "\x1b[?25l")
	})
}

func TestTopInATerminal(t *testing.T) {
	x := startInTerminal(t, nil, "top", "--url="+serveEpochs(t))
	x.shows("LIVE")
	x.shows("10.0.0.0:40000")
	if x.modes() == x.before {
		t.Error("the terminal isn't raw while the program runs: this test would see nothing")
	}
	x.press("\t", "[sources]")
	x.press("\x1b[D", "[flows]") // left
	x.press("b", "byte/s")
	x.press("n", "10.1.0.1:https")
	x.press("/port x\r", `port "x" isn't a port`)
	x.press("\x7f40007\r", "filter: port 40007")
	x.shows("filtered out")
	x.press(" ", "PAUSED")
	x.press("?", "any key goes back")
	x.press("x", "PAUSED")
	x.resize(120, 40)
	x.shows("PKT/S")
	if raw := x.written(); !strings.Contains(raw, "\x1b[36m") && !strings.Contains(raw, ";36m") {
		t.Error("bars have no colour")
	}
	x.press("q", "")
	x.ends(0)
}

// Whatever ends the program, the terminal is as it was.
func TestTopIsEndedBySignals(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		x := startInTerminal(t, nil, "top", "--url="+serveEpochs(t))
		x.shows("LIVE")
		if err := x.command.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		x.ends(0)
	}
	x := startInTerminal(t, nil, "top", "--url="+serveEpochs(t))
	x.shows("LIVE")
	x.press("\x03", "") // Ctrl-C
	x.ends(0)
}

// An exporter that isn't there is waited for.
func TestTopWithoutAnExporter(t *testing.T) {
	x := startInTerminal(t, []string{"NO_COLOR=1"}, "top", "--url=http://127.0.0.1:1")
	x.shows("DOWN")
	x.shows("retrying: ")
	for _, sequence := range strings.Split(x.written(), "\x1b[")[1:] {
		parameters, _, ok := strings.Cut(sequence, "m")
		if !ok || strings.Trim(parameters, "0123456789;") != "" {
			continue // not one of colours and styles
		}
		for parameter := range strings.SplitSeq(parameters, ";") {
			if len(parameter) == 2 && strings.Contains("34", parameter[:1]) && !strings.Contains("89", parameter[1:]) {
				t.Errorf("a colour in spite of NO_COLOR: %q", parameters)
			}
		}
	}
	x.press("q", "")
	x.ends(0)
}

func TestTopInAPipe(t *testing.T) {
	code, stdout, stderr := program(t, "top", "--count=1", "--rows=1", "--url="+serveEpochs(t))
	if code != 0 || stderr != "" || strings.Contains(stdout, "\x1b") || !strings.Contains(stdout, "\n10.0.0.0:40000  10.1.0.1:443  tcp ") {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
	code, stdout, stderr = program(t, "top", "--url=http://127.0.0.1:1")
	want := "tma-exporter: http://127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused\n"
	if code != 1 || stdout != "" || stderr != want {
		t.Errorf("exit code %d, output %q, errors %q; want 1 and %q", code, stdout, stderr, want)
	}
}
