package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/procfs"
	"gopkg.in/yaml.v3"
)

// live is one run of an aggregator process against a fleet.
type live struct {
	Exporters int     `json:"exporters"`
	Seconds   float64 `json:"seconds"`
	Cores     float64 `json:"cores"`          // of the aggregator
	MiB       float64 `json:"mib"`            // its greatest resident memory
	ScrapeMax float64 `json:"scrape_seconds"` // the longest of its own scrapes
	Fleet     summary `json:"fleet"`
	FleetCore float64 `json:"fleet_cores"`
	// What the aggregator says at the end.
	Counted uint64  `json:"counted_bytes"`
	Missed  float64 `json:"missed_epochs"`
	Errors  float64 `json:"poll_errors"`
	// Failed is how many of its own scrapes had no answer in time.
	Failed int `json:"failed_scrapes"`
}

// liveSettings say how a run goes.
type liveSettings struct {
	Aggregator string        `json:"-"`        // the program
	Warmup     time.Duration `json:"warmup"`   // before CPU time counts
	Duration   time.Duration `json:"duration"` // in which it does
	Scrape     time.Duration `json:"scrape"`   // how often its metrics are asked for
}

// answerTimeout is for how long an answer of an overloaded aggregator is waited for.
const answerTimeout = 15 * time.Second

// drain is for how long after the last epoch the aggregator may still read.
const drain = 3 * time.Second

// runLive measures an aggregator with so many exporters.
func runLive(s liveSettings, exporters int) (result live, err error) {
	// The kernel ends the aggregator when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	directory, err := os.MkdirTemp("", "bench-aggregator")
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(directory)
	epochs := int((s.Warmup + s.Duration) / epochLength)
	simulated, err := startFleet(exporters, epochs)
	if err != nil {
		return result, fmt.Errorf("simulated exporters: %w", err)
	}
	defer simulated.stop()
	a, err := startAggregator(s.Aggregator, directory, simulated.Targets)
	if err != nil {
		return result, err
	}
	defer a.stop()
	result = live{Exporters: exporters}
	time.Sleep(time.Until(simulated.Start.Add(s.Warmup)))
	if err := a.measure(s, &result); err != nil {
		return result, err
	}
	time.Sleep(drain)
	if err := a.readMetrics(&result); err != nil {
		result.Failed++
		progress("%d exporters: %v", exporters, err)
	}
	result.Fleet, err = simulated.finish()
	result.FleetCore = result.Fleet.CPUSeconds / time.Since(simulated.Start).Seconds()
	return result, err
}

// simulation is the process of a fleet.
type simulation struct {
	ready
	command *exec.Cmd
	stdin   io.Closer
	output  *json.Decoder
}

func startFleet(exporters, epochs int) (*simulation, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &simulation{command: exec.Command(self, fleetCommand, strconv.Itoa(exporters), strconv.Itoa(epochs))}
	s.command.Stderr = os.Stderr
	stdin, err := s.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.stdin, s.output = stdin, json.NewDecoder(stdout)
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	if err := s.output.Decode(&s.ready); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// finish ends the process and returns its summary.
func (s *simulation) finish() (sum summary, err error) {
	return sum, errors.Join(s.stdin.Close(), s.output.Decode(&sum), s.command.Wait())
}

// stop ends the process if it runs still.
func (s *simulation) stop() {
	if s.command.ProcessState == nil {
		s.command.Process.Kill() //nolint:errcheck // it has ended
		s.command.Wait()         //nolint:errcheck // it was killed
	}
}

// aggregator is a running tma-aggregator.
type aggregator struct {
	address string
	command *exec.Cmd
	log     *os.File
}

func startAggregator(program, directory string, targets []string) (*aggregator, error) {
	file := filepath.Join(directory, "tma-aggregator.yml")
	if err := writeConfiguration(file, targets); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(directory, "log"))
	if err != nil {
		return nil, err
	}
	a := &aggregator{address: address, log: log, command: exec.Command(program, "--config.file="+file, "--web.listen-address="+address)}
	a.command.Stdout, a.command.Stderr = log, log
	a.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.command.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err = a.get("/-/healthy"); err == nil {
			return a, nil
		}
		if time.Now().After(deadline) {
			a.stop()
			return nil, fmt.Errorf("the aggregator doesn't answer: %w\n%s", err, a.lastLines())
		}
	}
}

// writeConfiguration lists the targets; all else is as by default.
func writeConfiguration(file string, targets []string) error {
	type static struct {
		Targets []string `yaml:"targets"`
	}
	type job struct {
		Name    string   `yaml:"job_name"`
		Statics []static `yaml:"static_configs"`
	}
	data, err := yaml.Marshal(map[string][]job{"scrape_configs": {{"tma", []static{{targets}}}}})
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (a *aggregator) get(path string) ([]byte, error) {
	client := http.Client{Timeout: answerTimeout}
	response, err := client.Get("http://" + a.address + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return body, err
}

// lastLines are the end of the log.
func (a *aggregator) lastLines() string {
	data, _ := os.ReadFile(a.log.Name())
	return string(data[max(0, len(data)-2000):])
}

func (a *aggregator) stop() {
	if a.command.ProcessState == nil {
		a.command.Process.Kill() //nolint:errcheck // it has ended
		a.command.Wait()         //nolint:errcheck // it was killed
	}
	a.log.Close()
}

// measure takes the CPU time of a while, in which Prometheus scrapes, and the
// greatest memory until its end.
func (a *aggregator) measure(s liveSettings, result *live) error {
	process, err := procfs.NewProc(a.command.Process.Pid)
	if err != nil {
		return err
	}
	before, err := process.Stat()
	if err != nil {
		return err
	}
	began := time.Now()
	for end := began.Add(s.Duration); time.Now().Before(end); {
		time.Sleep(min(s.Scrape, time.Until(end)))
		asked := time.Now()
		if _, err := a.get("/metrics"); err != nil {
			result.Failed++
			progress("%d exporters: %v", result.Exporters, err)
		}
		result.ScrapeMax = max(result.ScrapeMax, time.Since(asked).Seconds())
	}
	after, err := process.Stat()
	if err != nil {
		return err
	}
	status, err := process.NewStatus()
	result.Seconds = time.Since(began).Seconds()
	result.Cores = (after.CPUTime() - before.CPUTime()) / result.Seconds
	result.MiB = float64(status.VmHWM) / (1 << 20)
	return err
}

// readMetrics takes from the aggregator's metrics what must be true.
func (a *aggregator) readMetrics(result *live) error {
	body, err := a.get("/metrics")
	if err != nil {
		return err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bufio.NewReader(strings.NewReader(string(body))))
	if err != nil {
		return err
	}
	sum := func(name string) (sum float64) {
		for _, m := range families[name].GetMetric() {
			sum += m.GetCounter().GetValue()
		}
		return sum
	}
	result.Counted = uint64(sum("tma_fleet_bytes_total"))
	result.Missed, result.Errors = sum("tma_exporter_missed_epochs_total"), sum("tma_exporter_poll_errors_total")
	return nil
}
