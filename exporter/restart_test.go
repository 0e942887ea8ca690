package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

const (
	testAddress = "127.0.0.1:10017"
	testURL     = "http://" + testAddress
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire makes two devices in the namespace of the process, each the other's wire, and
// sets lo up.
func wire(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "to-" + name}))
	}
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		if l.Attrs().Name != "lo" {
			must(t, netlink.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE))
		}
		must(t, netlink.LinkSetUp(l))
	}
}

// exporter starts the program; output gets what it logs.
func exporter(t *testing.T, output io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(os.Args[0], append([]string{"--web.listen-address=" + testAddress}, args...)...)
	command.Env = append(os.Environ(), asProgram+"=1")
	command.Stderr = output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, command.Start())
	t.Cleanup(func() { command.Process.Kill() })
	return command
}

// ready waits until the first epoch of a run is there.
func ready(t *testing.T) {
	t.Helper()
	testutil.Eventually(t, 20*time.Second, "ready", func() bool {
		response, err := http.Get(testURL + "/-/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// aggregator reads epochs as the real one does: those behind the last it has, of the
// run that it knows.
type aggregator struct {
	t     *testing.T
	last  uint64
	boot  [16]byte
	total epoch.Count
}

// read reads one answer, if the exporter lives to give it, and says whether there was
// traffic in it.
func (a *aggregator) read() (traffic bool) {
	a.t.Helper()
	response, err := http.Get(fmt.Sprintf("%s/v1/epochs?after=%d&wait=1s&boot_id=%x", testURL, a.last, a.boot))
	if err != nil {
		return false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return false
	}
	if response.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: %s", response.Status, body)
	}
	batch, err := epoch.DecodeBatch(body)
	must(a.t, err)
	return a.take(batch)
}

// take says whether there was traffic in a batch.
func (a *aggregator) take(batch *epoch.Batch) (traffic bool) {
	a.t.Helper()
	if a.last != 0 && batch.BootID != a.boot {
		a.t.Fatal("another run, by its id")
	}
	a.boot = batch.BootID
	for _, e := range batch.Epochs {
		if e.Sequence != a.last+1 {
			a.t.Fatalf("epoch %d behind %d", e.Sequence, a.last)
		}
		if left := e.Unaccounted(flow.Source); left != (epoch.Count{}) {
			a.t.Errorf("epoch %d: %v unaccounted", e.Sequence, left)
		}
		a.last = e.Sequence
		for _, d := range e.Devices {
			if d.Name == "eth0" && d.Direction == flow.Ingress {
				a.total.Add(d.Total)
				traffic = traffic || d.Total != epoch.Count{}
			}
		}
	}
	return traffic
}

// sender sends datagrams of many flows until stopped.
type sender struct {
	stop, done chan struct{}
	total      epoch.Count
}

func startSender(t *testing.T, device string) *sender {
	t.Helper()
	i, err := net.InterfaceByName(device)
	must(t, err)
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	must(t, err)
	s := &sender{stop: make(chan struct{}), done: make(chan struct{})}
	frame := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 48, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, make([]byte, 28)...)
	go func() {
		defer close(s.done)
		defer unix.Close(socket)
		for n := 0; n < 3_000_000; n++ { // a bound, should the test hang
			frame[27], frame[28], frame[34] = byte(n>>8), byte(n), byte(n>>5)
			if err := unix.Sendto(socket, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6}); err != nil {
				t.Error(err)
				return
			}
			s.total.Add(epoch.Count{Packets: 1, Bytes: uint64(len(frame))})
			if n%100 == 99 {
				select {
				case <-s.stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}
	}()
	return s
}

func (s *sender) end() { close(s.stop); <-s.done }

// The program is killed again and again, at moments that nobody chose, under traffic.
// An aggregator that reads now and then misses no byte, and doesn't notice another run.
func TestKillLosesNothing(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		wire(t, "eth0")
		bpffs := t.TempDir()
		must(t, unix.Mount("bpf", bpffs, "bpf", 0, ""))
		defer unix.Unmount(bpffs, unix.MNT_DETACH)
		pinPath := filepath.Join(bpffs, "tma")
		args := []string{"--capture.include=eth0", "--capture.epoch=100ms", "--capture.pin-path=" + pinPath, "--capture.memory=16MiB"}
		a := &aggregator{t: t}
		var log bytes.Buffer
		defer func() {
			if t.Failed() {
				t.Log(log.String())
			}
		}()
		first := exporter(t, &log, args...)
		ready(t)
		testutil.Eventually(t, 10*time.Second, "attached", func() bool { return strings.Count(get(t, "/metrics"), "tma_capture_attached{") == 2 })
		s := startSender(t, "to-eth0")
		r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
		running := first
		for life := range 12 {
			if life%3 == 2 {
				ready(t)
				a.read()
			}
			time.Sleep(time.Duration(r.IntN(600)) * time.Millisecond)
			must(t, running.Process.Kill())
			running.Wait()
			if life == 6 {
				args[3] = "--capture.memory=24MiB" // another layout
			}
			running = exporter(t, &log, args...)
		}
		s.end()
		ready(t)
		time.Sleep(300 * time.Millisecond) // three epochs: the last packets are in one that ended
		for a.read() {
		}
		if a.total != s.total {
			t.Errorf("the aggregator has %v in %d epochs, sent %v", a.total, a.last, s.total)
		}
		t.Logf("%d packets in %d epochs", a.total.Packets, a.last)
		if code, _, stderr := program(t, "detach", "--capture.pin-path="+pinPath); code != 1 || !strings.Contains(stderr, "in use by another tma-exporter") {
			t.Errorf("detach under a running exporter: code %d, %s", code, stderr)
		}
		must(t, running.Process.Signal(syscall.SIGTERM))
		must(t, running.Wait())
		for _, devices := range []int{1, 0} {
			want := fmt.Sprintf("tma-exporter: detached from %d devices, nothing is pinned under %s\n", devices, pinPath)
			if code, stdout, stderr := program(t, "detach", "--capture.pin-path="+pinPath); code != 0 || stdout != want || stderr != "" {
				t.Errorf("detach: code %d, output %q, errors %q, want %q", code, stdout, stderr, want)
			}
		}
	})
}

func get(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get(testURL + path)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return string(body)
}
