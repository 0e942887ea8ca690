package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// reloading is a running exporter and the file that it reads.
type reloading struct {
	t       *testing.T
	file    string
	log     bytes.Buffer // complete once the program has ended
	running *exec.Cmd
}

func startReloading(t *testing.T, text string) *reloading {
	t.Helper()
	r := &reloading{t: t, file: filepath.Join(t.TempDir(), "exporter.yml")}
	r.write(text)
	r.running = exporter(t, &r.log, "--config.file="+r.file)
	ready(t)
	return r
}

func (r *reloading) write(text string) { must(r.t, os.WriteFile(r.file, []byte(text), 0o600)) }

func (r *reloading) hangUp() {
	r.t.Helper()
	must(r.t, r.running.Process.Signal(syscall.SIGHUP))
}

// post reloads, with the answer that is wanted.
func (r *reloading) post(status int, want string) {
	r.t.Helper()
	response, err := http.Post(testURL+"/-/reload", "", nil)
	must(r.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(r.t, err)
	if response.StatusCode != status || string(body) != want {
		r.t.Errorf("status %d %q, want %d %q", response.StatusCode, body, status, want)
	}
}

// attached waits until these devices are captured on, and no other.
func (r *reloading) attached(devices ...string) {
	r.t.Helper()
	testutil.Eventually(r.t, 10*time.Second, fmt.Sprint("attached to ", devices), func() bool {
		metrics := get(r.t, "/metrics")
		for _, device := range devices {
			if strings.Count(metrics, fmt.Sprintf("tma_capture_attached{device=%q", device)) != 2 {
				return false
			}
		}
		return strings.Count(metrics, "tma_capture_attached{") == 2*len(devices)
	})
}

// succeeded waits until the metric says how the last reload went.
func (r *reloading) succeeded(want int) {
	r.t.Helper()
	testutil.Eventually(r.t, 10*time.Second, fmt.Sprint("the last reload: ", want), func() bool {
		return strings.Contains(get(r.t, "/metrics"), fmt.Sprintf("\ntma_config_last_reload_successful %d\n", want))
	})
}

// end ends the program and returns what it logged.
func (r *reloading) end() string {
	r.t.Helper()
	must(r.t, r.running.Process.Signal(syscall.SIGTERM))
	must(r.t, r.running.Wait())
	return r.log.String()
}

// SIGHUP and POST /-/reload take a changed file over; a wrong one, or one that needs a
// restart, leaves everything as it is and says why, once.
func TestReload(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		wire(t, "eth0", "eth1")
		r := startReloading(t, "capture: {include: eth0, epoch: 100ms}\n")
		r.attached("eth0")
		r.write("capture: {include: eth.*, epoch: 100ms}\n")
		r.hangUp()
		r.attached("eth0", "eth1")
		r.write("capture: {include: eth1, epoch: 100ms}\n")
		r.post(http.StatusOK, "Reloaded.\n")
		r.attached("eth1")
		r.succeeded(1)

		r.write("capture: {include: eth0, epoch: 1s}\n")
		r.hangUp()
		r.succeeded(0)
		r.write("capture: {includ: eth0}\n")
		r.post(http.StatusInternalServerError, r.file+": capture.includ: unknown key; allowed: epoch, exclude, fleet, include, layer3, memory, pin_path\n")
		r.succeeded(0)
		r.attached("eth1")

		r.write("capture: {include: eth0, epoch: 100ms}\n")
		r.post(http.StatusOK, "Reloaded.\n")
		r.succeeded(1)
		r.attached("eth0")

		log := r.end()
		for what, want := range map[string]int{
			"Loaded the configuration":                                     3,
			"Loading the configuration failed; the old one stays":          2,
			`capture.epoch: can't change from \"100ms\" to \"1s\" while`:   1,
			"capture.includ: unknown key; allowed: epoch, exclude, fleet,": 1,
		} {
			if got := strings.Count(log, what); got != want {
				t.Errorf("%d lines say %q, want %d, in\n%s", got, what, want, log)
			}
		}
	})
}

// What a reload doesn't change stays: devices without Ethernet, too.
func TestReloadKeepsLayer3(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		wire(t, "eth0")
		r := startReloading(t, "capture: {include: eth0|lo, layer3: lo, epoch: 100ms}\n")
		r.attached("eth0", "lo")
		r.write("capture: {include: eth0|lo, layer3: lo, epoch: 100ms, fleet: [10.0.0.0/8]}\n")
		r.post(http.StatusOK, "Reloaded.\n")
		r.attached("eth0", "lo")
		if log := r.end(); strings.Contains(strings.Split(log, "Stopping")[0], "Detached") {
			t.Errorf("the reload detached:\n%s", log)
		}
	})
}
