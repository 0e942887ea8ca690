package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// The test binary is the exporter and the aggregator too, under their names.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case exporterProgram:
		fakeExporter()
	case aggregatorProgram:
		fakeAggregator()
	default:
		os.Exit(m.Run())
	}
}

// fail ends a fake program.
func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(3)
}

// argument returns the value of a flag that a fake program was given.
func argument(flag string) string {
	for _, a := range os.Args[1:] {
		if value, found := strings.CutPrefix(a, flag+"="); found {
			return value
		}
	}
	fail("no %s in %v", flag, os.Args)
	return ""
}

// fakeExporter serves on the socket it inherits, and says on which devices its
// namespace has seen packets.
func fakeExporter() {
	config, err := os.ReadFile(argument("--config.file"))
	if err != nil || !slices.Contains(os.Args, "--web.systemd-socket") || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		fail("arguments %v, LISTEN_PID %s, configuration: %v", os.Args, os.Getenv("LISTEN_PID"), err)
	}
	const fleet = `fleet: ["172.25.10.0/24", "fd25:10::/64", "172.25.20.0/24", "fd25:20::/64"]`
	if !bytes.Contains(config, []byte(fleet)) {
		fail("no %s in the configuration", fleet)
	}
	listener, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		fail("%v", err)
	}
	// Only the lab's devices are to be seen in the namespace.
	if interfaces, err := net.Interfaces(); err != nil || len(interfaces) < 2 || len(interfaces) > 3 {
		fail("interfaces %v, %v", interfaces, err)
	}
	serve(listener, http.NewServeMux())
}

// fakeAggregator answers as the real one would; if asked for in its
// environment, it ends after the first view.
func fakeAggregator() {
	config, err := os.ReadFile(argument("--config.file"))
	if err != nil {
		fail("%v", err)
	}
	listener, err := net.Listen("tcp", argument("--web.listen-address"))
	if err != nil {
		fail("%v", err)
	}
	mux := http.NewServeMux()
	for path, answer := range map[string]string{
		"/v1/hhh": `{"from":"2026-01-01T00:00:00Z","to":"2026-01-01T00:00:10Z","total":{"bytes":20000000,"packets":30000},
			"heavy_hitters":[{"prefix":"172.25.10.0/24","bytes":5000000,"conditioned_bytes":1000000,"packets":7}]}`,
		"/v1/top": `{"from":"2026-01-01T00:00:00Z","to":"2026-01-01T00:00:10Z",
			"top":[{"source":"fd25:10::2","destination":"fd25:20::3","source_port":1,"destination_port":443,"protocol":"tcp","bytes":1000,"packets":1}]}`,
		"/v1/cardinality": `{"window":"10s","estimates":[{"of":"flows","estimate":1200.4},{"of":"destination_ports","estimate":9}]}`,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) })
	}
	mux.HandleFunc("/v1/exporters", func(w http.ResponseWriter, _ *http.Request) {
		up := strings.Repeat(`{"up":true},`, bytes.Count(config, []byte("127.0.0.1:")))
		fmt.Fprintf(w, `{"exporters":[%s{"up":false}]}`, up)
		if os.Getenv("TMA_TEST_AGGREGATOR_ENDS") != "" {
			fail("out of luck")
		}
	})
	serve(listener, mux)
}

// serve serves until SIGTERM.
func serve(listener net.Listener, mux *http.ServeMux) {
	mux.HandleFunc("/-/ready", func(http.ResponseWriter, *http.Request) {})
	go http.Serve(listener, mux)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
}

// configuration is a demo of fakes and of the real traffic generator, in a
// network with names of its own.
func configuration(t *testing.T, output io.Writer) Configuration {
	t.Helper()
	testutil.RequireRoot(t)
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfiguration()
	c.Binaries, c.Output = t.TempDir(), output
	c.Network.Prefix = "tma-" + strings.ToLower(t.Name()) + "-"
	for _, name := range []string{exporterProgram, aggregatorProgram} {
		if err := os.Symlink(own, c.program(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := testutil.NoteSources("../cmd/tma-traffic", "../traffic", "../../internal"); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", c.program(trafficProgram), "../cmd/tma-traffic")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	t.Setenv("TMPDIR", t.TempDir())
	return c
}

// checkNothingLeft wants no namespace, file or child to be left of the demo.
func checkNothingLeft(t *testing.T, c Configuration) {
	t.Helper()
	for _, name := range []string{"zone-a", "zone-b", "host-a", "host-b", "host-c", "host-d"} {
		if netns.Exists(c.Network.Prefix + name) {
			t.Errorf("namespace %s is left", name)
		}
	}
	if files, err := os.ReadDir(os.TempDir()); err != nil || len(files) > 0 {
		t.Errorf("files %v are left, %v", files, err)
	}
	// A child that had been left would be a child of this process.
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("children are left: %d, %v", pid, err)
	}
}

func TestDemoShowsAndEnds(t *testing.T) {
	var output bytes.Buffer
	c := configuration(t, &output)
	c.Duration = 2500 * time.Millisecond
	if err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Ctrl-C takes everything down.",
		"exporters 4 of 5 up | last 10s: 2.0 MB/s, 3000 packets/s | distinct: 1200 flows, 9 destination ports",
		"172.25.10.0/24                                 500.0 kB/s  25.0 %   100.0 kB/s",
		"tcp [fd25:10::2]:1 > [fd25:20::3]:443                                     100.0 B/s   0.0 %",
	} {
		if !strings.Contains(output.String(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if views := strings.Count(output.String(), "TMA lab"); views != 2 {
		t.Errorf("%d views in 2.5 s, want 2", views)
	}
	if strings.Contains(output.String(), "\x1b") {
		t.Error("control sequences though the output is no terminal")
	}
	if t.Failed() {
		t.Log(output.String())
	}
	checkNothingLeft(t, c)
}

func TestDemoSaysWhyAChildEnded(t *testing.T) {
	c := configuration(t, io.Discard)
	t.Setenv("TMA_TEST_AGGREGATOR_ENDS", "1")
	const want = "tma-aggregator ended (exit status 3); its last words:\n  out of luck"
	if err := Run(t.Context(), c); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	checkNothingLeft(t, c)
}

// notifier is an output that tells when it is first written to.
type notifier struct {
	once    sync.Once
	written chan struct{}
}

func (n *notifier) Write(p []byte) (int, error) {
	n.once.Do(func() { close(n.written) })
	return len(p), nil
}

func TestDemoEndsWithItsContext(t *testing.T) {
	output := &notifier{written: make(chan struct{})}
	c := configuration(t, output)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-output.written
		cancel()
	}()
	if err := Run(ctx, c); err != nil {
		t.Error(err)
	}
	checkNothingLeft(t, c)
}

func TestMissingProgramsAreNamed(t *testing.T) {
	testutil.RequireRoot(t)
	c := DefaultConfiguration()
	c.Binaries = "/nowhere"
	const want = "/nowhere/tma-exporter is missing: run `make build`\n" +
		"/nowhere/tma-aggregator is missing: run `make build`\n" +
		"/nowhere/tma-traffic is missing: run `make build`"
	if err := Run(t.Context(), c); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestDurationIsChecked(t *testing.T) {
	c := DefaultConfiguration()
	c.Duration = -time.Second
	const want = "duration -1s: must be from 1s to 24h0m0s"
	if err := Run(t.Context(), c); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestTailKeepsLastLines(t *testing.T) {
	var log tail
	if got := log.String(); got != "  (nothing)" {
		t.Errorf("empty: %q", got)
	}
	for i := range 100 {
		fmt.Fprintf(&log, "line %d\nli", i)
		fmt.Fprintf(&log, "ne %d b\n", i)
	}
	log.Write([]byte(strings.Repeat("x", 5000) + "\nno end"))
	lines := strings.Split(log.String(), "\n")
	if len(lines) != tailLines+1 || lines[0] != "  line 95 b" || len(lines[tailLines-1]) != 2+maxLine || lines[tailLines] != "  no end" {
		t.Errorf("kept %d lines: %.200q", len(lines), lines)
	}
}

func TestFit(t *testing.T) {
	got := fit([]string{"1234567890", "ä234567890", "x", "y"}, 4, 6)
	if want := []string{"12345", "ä2345", "x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
