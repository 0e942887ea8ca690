package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// service is the program as its systemd unit runs it: as an ordinary user.
type service struct {
	*exec.Cmd
	log bytes.Buffer
}

// startService starts a build of the program, the one that is packaged.
func startService(t *testing.T, program string, args ...string) *service {
	t.Helper()
	s := &service{Cmd: exec.Command(program, append([]string{"--web.listen-address=" + testAddress}, args...)...)}
	s.Stderr = &s.log
	must(t, testutil.StartUnprivileged(s.Cmd, unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON))
	t.Cleanup(func() {
		if s.ProcessState == nil {
			s.Process.Kill()
			s.Wait()
		}
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	ready(t)
	return s
}

func buildProgram(t *testing.T) string {
	t.Helper()
	must(t, testutil.NoteSources(".", "../internal", "../bpf"))
	path := filepath.Join(testutil.OpenDir(t), "tma-exporter")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the exporter: %v\n%s", err, output)
	}
	return path
}

func attachedTo(t *testing.T, devices ...string) {
	t.Helper()
	testutil.Eventually(t, 10*time.Second, fmt.Sprint("attached to ", devices), func() bool {
		metrics := get(t, "/metrics")
		for _, device := range devices {
			if strings.Count(metrics, fmt.Sprintf("tma_capture_attached{device=%q", device)) != 2 {
				return false
			}
		}
		return strings.Count(metrics, "tma_capture_attached{") == 2*len(devices)
	})
}

// checkCapabilities demands what tma-exporter(8) says of a running exporter.
func (s *service) checkCapabilities(t *testing.T) {
	t.Helper()
	const retained = 1<<unix.CAP_BPF | 1<<unix.CAP_NET_ADMIN
	want := map[string]uint64{"CapEff": retained, "CapPrm": retained, "CapBnd": retained | 1<<unix.CAP_PERFMON, "CapInh": 0, "CapAmb": 0}
	for name, set := range testutil.Capabilities(t, s.Process.Pid) {
		if set != want[name] {
			t.Errorf("%s is %#x, want %#x", name, set, want[name])
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Process.Pid))
	must(t, err)
	for _, line := range []string{"NoNewPrivs:\t1\n", fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", testutil.Nobody)} {
		if !bytes.Contains(status, []byte(line)) {
			t.Errorf("the process's status has no %q", line)
		}
	}
}

// count sends through a device until stopped, and demands that every packet is in an
// epoch.
func (a *aggregator) count(t *testing.T, device string, during func()) {
	t.Helper()
	s := startSender(t, device)
	during()
	s.end()
	testutil.Eventually(t, 20*time.Second, "every packet is in an epoch", func() bool {
		a.read()
		return a.total == s.total
	})
	if s.total.Packets == 0 {
		t.Error("nothing was sent")
	}
}

// The program itself runs as an ordinary user with three capabilities, of which it keeps
// two: it counts every packet, follows new devices, reloads, and leaves nothing attached.
func TestRunsUnprivileged(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		wire(t, "eth0")
		file := filepath.Join(testutil.OpenDir(t), "exporter.yml")
		write := func(text string) { must(t, os.WriteFile(file, []byte(text), 0o644)) }
		write("capture: {include: eth0, epoch: 100ms}\n")
		s := startService(t, buildProgram(t), "--config.file="+file)
		attachedTo(t, "eth0")
		s.checkCapabilities(t)
		a := &aggregator{t: t}
		a.count(t, "to-eth0", func() {
			write("capture: {include: eth.*, epoch: 100ms}\n")
			response, err := http.Post(testURL+"/-/reload", "", nil)
			must(t, err)
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("reload: %s", response.Status)
			}
			wire(t, "eth1")
			attachedTo(t, "eth0", "eth1")
		})
		write("capture: {include: eth1, epoch: 100ms}\n")
		must(t, s.Process.Signal(syscall.SIGHUP))
		attachedTo(t, "eth1")
		must(t, s.Process.Signal(syscall.SIGTERM))
		must(t, s.Wait())
		if strings.Contains(s.log.String(), "level=ERROR") || strings.Contains(s.log.String(), "level=WARN") {
			t.Errorf("it complains:\n%s", &s.log)
		}
	})
}

// With a BPF file system of its own an ordinary user can pin, and take over after having
// been killed.
func TestPinsUnprivileged(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		wire(t, "eth0")
		bpffs := filepath.Join(testutil.OpenDir(t), "bpf")
		must(t, os.Mkdir(bpffs, 0o700))
		must(t, unix.Mount("bpf", bpffs, "bpf", 0, "mode=0700"))
		defer unix.Unmount(bpffs, unix.MNT_DETACH)
		must(t, os.Chown(bpffs, testutil.Nobody, testutil.Nobody))
		program := buildProgram(t)
		args := []string{"--capture.include=eth0", "--capture.epoch=100ms", "--capture.pin-path=" + filepath.Join(bpffs, "tma")}
		first := startService(t, program, args...)
		attachedTo(t, "eth0")
		a := &aggregator{t: t}
		a.count(t, "to-eth0", func() {
			testutil.Eventually(t, 10*time.Second, "traffic", a.read)
			must(t, first.Process.Kill())
			first.Wait()
			second := startService(t, program, args...)
			attachedTo(t, "eth0")
			second.checkCapabilities(t)
		})
	})
}

// A user who lacks a capability is told which one, in one line, and how to grant it.
func TestNamesMissingCapability(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		var log bytes.Buffer
		command := exec.Command(buildProgram(t), "--log.level=error")
		command.Stderr = &log
		must(t, testutil.StartUnprivileged(command, unix.CAP_PERFMON, unix.CAP_NET_ADMIN))
		if err := command.Wait(); err == nil {
			t.Error("it ran without CAP_BPF")
		}
		if line := log.String(); !strings.HasPrefix(line, "tma-exporter: missing capability: CAP_BPF; ") || strings.Count(line, "\n") != 1 {
			t.Errorf("it says %q", line)
		}
	})
}
