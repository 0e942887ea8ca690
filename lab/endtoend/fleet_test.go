// Package endtoend tests TMA as its users run it: the built programs, an exporter
// on each host of the lab, an aggregator that scrapes them, and packets whose
// counts are known.
package endtoend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
	"github.com/traffic-monitor-agent/tma/lab/network"
)

// programs is where TestMain built the programs.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "tma-programs"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(programs)
		if err := testutil.NoteSources("../../exporter", "../../aggregator", "../../internal", "../../bpf"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		for name, path := range map[string]string{"tma-exporter": "../../exporter", "tma-aggregator": "../../aggregator"} {
			if output, err := exec.Command("go", "build", "-o", filepath.Join(programs, name), path).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, output)
				return 1
			}
		}
		return m.Run()
	}())
}

// fleet is the lab with an exporter on each host and one aggregator, which is in
// the test's own namespace, as the exporters' listening sockets are.
type fleet struct {
	network    *network.Network
	exporters  map[string]*server // by host
	aggregator *server
	directory  string
}

// server is a program that serves HTTP on a socket that outlives it.
type server struct {
	url     string
	socket  *os.File
	process *netns.Process
	log     *output
	start   func() *netns.Process
}

// output is a child's standard error, which the test prints if it fails.
type output struct {
	mu sync.Mutex
	bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Buffer.Write(p)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.String()
}

// exporterConfig is that of every exporter but for its fleet.
const exporterConfig = `
capture:
  epoch: 500ms
  fleet: [%s]
epochs:
  flows: 20000
  retention: 10m
`

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := newLab(t)
	f.start(t, exporterConfig, f.network.HostNames()...)
	return f
}

// newLab brings the lab up without a program in it.
func newLab(t *testing.T) *fleet {
	t.Helper()
	testutil.RequireRoot(t)
	configuration := network.DefaultConfiguration()
	configuration.Prefix = "" // namespaces that end with the test
	n, err := network.Up(configuration)
	must(t, err)
	t.Cleanup(func() { must(t, n.Down()) })
	return &fleet{network: n}
}

// start starts exporters on some hosts, of a configuration but for its fleet, and an
// aggregator of these. They end with the test.
func (f *fleet) start(t *testing.T, config string, hosts ...string) {
	t.Helper()
	f.exporters, f.directory = map[string]*server{}, t.TempDir()
	var prefixes, targets []string
	for _, p := range f.network.Configuration().Fleet() {
		prefixes = append(prefixes, fmt.Sprintf("%q", p))
	}
	file := f.write(t, "exporter.yml", fmt.Sprintf(config, strings.Join(prefixes, ", ")))
	for _, host := range hosts {
		s := newServer(t, f.network.Namespace(host), "tma-exporter", "--config.file="+file)
		f.exporters[host] = s
		targets = append(targets, fmt.Sprintf("%q", strings.TrimPrefix(s.url, "http://")))
	}
	here, err := netns.Current()
	must(t, err)
	t.Cleanup(func() { must(t, here.Close()) })
	file = f.write(t, "aggregator.yml", fmt.Sprintf("scrape_configs: [{job_name: lab, static_configs: [{targets: [%s]}]}]\n", strings.Join(targets, ", ")))
	f.aggregator = newServer(t, here, "tma-aggregator", "--config.file="+file)
	f.waitReady(t)
	// What is in an epoch during which another exporter started may be counted twice,
	// or not.
	f.waitForEpochs(t, time.Now())
}

func (f *fleet) write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(f.directory, name)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// newServer starts a program in a namespace, with a socket in the test's.
func newServer(t *testing.T, n *netns.Namespace, program string, arguments ...string) *server {
	t.Helper()
	socket, address, err := netns.Listen("127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { socket.Close() })
	s := &server{url: "http://" + address.String(), socket: socket, log: &output{}}
	s.start = func() *netns.Process {
		cmd := exec.Command(filepath.Join(programs, program), append(arguments, "--web.systemd-socket")...)
		cmd.Stderr = s.log
		netns.PassListeners(cmd, socket)
		process, err := n.Start(cmd)
		must(t, err)
		return process
	}
	s.process = s.start()
	t.Cleanup(func() {
		if s.process.Stop(10 * time.Second) {
			t.Errorf("%s had to be killed", program)
		}
		if t.Failed() {
			t.Logf("%s in %s:\n%s", program, n.Name(), s.log.text())
		}
	})
	return s
}

// kill ends the program at once, as a crash would.
func (s *server) kill(t *testing.T) {
	t.Helper()
	must(t, s.process.Signal(syscall.SIGKILL))
	<-s.process.Done()
}

func (f *fleet) waitReady(t *testing.T) {
	t.Helper()
	all := map[string]*server{"aggregator": f.aggregator}
	for host, s := range f.exporters {
		all[host] = s
	}
	for name, s := range all {
		testutil.Eventually(t, 20*time.Second, name+" is ready", func() bool {
			response, err := http.Get(s.url + "/-/ready")
			if err != nil {
				return false
			}
			response.Body.Close()
			return response.StatusCode == http.StatusOK
		})
	}
	testutil.Eventually(t, 10*time.Second, "the aggregator knows all hosts", func() bool { return f.up(t) == len(f.exporters) })
}

// up is how many exporters the aggregator says are up.
func (f *fleet) up(t *testing.T) int {
	var answer struct{ Exporters []struct{ Up bool } }
	f.get(t, "/v1/exporters", &answer)
	n := 0
	for _, e := range answer.Exporters {
		if e.Up {
			n++
		}
	}
	return n
}

// get decodes an answer of the aggregator's.
func (f *fleet) get(t *testing.T, path string, into any) {
	t.Helper()
	response, err := http.Get(f.aggregator.url + path)
	must(t, err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", path, response.Status)
	}
	must(t, json.NewDecoder(response.Body).Decode(into))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
