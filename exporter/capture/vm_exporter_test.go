package capture

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// exporterVariable, in the environment, is the path of tma-exporter; without it the
// test builds one.
const exporterVariable = "TMA_EXPORTER"

// The program itself, as users run it: it attaches, counts what comes and goes at a
// device, serves that, and ends when told to.
func TestExporter(t *testing.T) {
	testutil.RequireRoot(t)
	if os.Getenv(exporterVariable) == "" {
		t.Setenv(exporterVariable, buildExporter(t))
	}
	testutil.InNamespace(t, func(t *testing.T) {
		const address = "127.0.0.1:10017"
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
		addVeth(t, "eth0", "wire0")
		end := startExporter(t, "--web.listen-address="+address, "--capture.include=eth.*", "--capture.epoch=200ms", "--capture.memory=16MiB")
		var metrics map[string]string
		read := func(name string) string {
			metrics = readMetrics("http://" + address + "/metrics")
			return metrics[name]
		}
		testutil.Eventually(t, 30*time.Second, "the exporter is attached", func() bool {
			for _, hook := range []string{"tcx", "clsact"} {
				if read(`tma_capture_attached{device="eth0",direction="egress",hook="`+hook+`"}`) == "1" {
					t.Logf("attached by %s", hook)
					return true
				}
			}
			return false
		})
		in, out := newBatch(0), newBatch(1000)
		send(t, "wire0", in.frames...)
		send(t, "eth0", out.frames...)
		for direction, b := range map[string]frameBatch{"ingress": in, "egress": out} {
			for unit, want := range map[string]uint64{"packets": b.sum.Packets, "bytes": b.sum.Bytes} {
				name := fmt.Sprintf(`tma_capture_%s_total{device="eth0",direction="%s"}`, unit, direction)
				testutil.Eventually(t, 20*time.Second, name+" is what was sent", func() bool { return read(name) == number(want) })
			}
		}
		if left := read("tma_capture_unaccounted_bytes_total"); left != "0" {
			t.Errorf("tma_capture_unaccounted_bytes_total is %q, want 0", left)
		}
		end()
	})
}

// number is a value as the metrics' text format has it.
func number(v uint64) string { return strconv.FormatFloat(float64(v), 'g', -1, 64) }

func buildExporter(t *testing.T) string {
	t.Helper()
	must(t, testutil.NoteSources("..", "../../internal", "../../bpf"))
	path := filepath.Join(t.TempDir(), "tma-exporter")
	build := exec.Command("go", "build", "-o", path, "github.com/traffic-monitor-agent/tma/exporter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the exporter: %v\n%s", err, output)
	}
	return path
}

// startExporter starts it; end tells it to end and demands that it does so in order.
func startExporter(t *testing.T, arguments ...string) (end func()) {
	t.Helper()
	exporter := exec.Command(os.Getenv(exporterVariable), arguments...)
	exporter.Stdout, exporter.Stderr = t.Output(), t.Output()
	must(t, exporter.Start())
	t.Cleanup(func() { _ = exporter.Process.Kill() }) // fails if it has ended
	return func() {
		t.Helper()
		must(t, exporter.Process.Signal(syscall.SIGTERM))
		if err := exporter.Wait(); err != nil {
			t.Errorf("the exporter ended with %v", err)
		}
	}
}

// readMetrics returns all values by name and labels, nothing while there is no
// server.
func readMetrics(url string) map[string]string {
	values := map[string]string{}
	response, err := http.Get(url)
	if err != nil {
		return values
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && !strings.HasPrefix(name, "#") {
			values[name] = value
		}
	}
	return values
}
