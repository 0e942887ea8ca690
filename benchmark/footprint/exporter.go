package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
	"github.com/traffic-monitor-agent/tma/internal/netns"
)

// exporter is a running tma-exporter that captures on the wire.
type exporter struct {
	*netns.Process
	log bytes.Buffer
	url string
}

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 10 * time.Second
)

// startExporter starts a program and waits until it is attached. It listens in the
// caller's namespace.
func startExporter(w *load.Wire, program string, arguments []string) (*exporter, error) {
	listener, address, err := netns.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	e := &exporter{url: "http://" + address.String() + "/metrics"}
	own := []string{"--web.systemd-socket", "--capture.include=" + load.DeviceName, "--log.level=warn"}
	cmd := exec.Command(program, append(own, arguments...)...)
	cmd.Stderr = &e.log
	netns.PassListeners(cmd, listener)
	if e.Process, err = w.Namespace.Start(cmd); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-e.Done():
			return nil, fmt.Errorf("the exporter ended: %w\n%s", e.Wait(), &e.log)
		default:
		}
		if m, _, err := e.scrape(); err == nil && m.sum("tma_capture_attached") == 2 && m.sum("tma_capture_epochs_total") > 0 {
			return e, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("the exporter didn't attach within %v", startTimeout), e.stop())
}

// stop ends the exporter. That it complained, or had to be killed, is an error.
func (e *exporter) stop() error {
	if e.Stop(stopTimeout) {
		return fmt.Errorf("the exporter didn't end within %v", stopTimeout)
	}
	if err := e.Wait(); err != nil || e.log.Len() > 0 {
		return fmt.Errorf("the exporter ended: %w\n%s", err, &e.log)
	}
	return nil
}

// metrics is what a scrape gets.
type metrics map[string]*dto.MetricFamily

// scrape returns the metrics, and how long it took to get them.
func (e *exporter) scrape() (metrics, time.Duration, error) {
	start := time.Now()
	response, err := http.Get(e.url)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	took := time.Since(start)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("scrape: %s", response.Status)
	}
	if err != nil {
		return nil, 0, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	return families, took, err
}

// sum adds up all series of a counter or gauge.
func (m metrics) sum(name string) (sum float64) {
	for _, each := range m[name].GetMetric() {
		sum += each.GetCounter().GetValue() + each.GetGauge().GetValue() + each.GetUntyped().GetValue()
	}
	return sum
}

// longestPause is the longest of the collector's pauses that the runtime remembers, the
// last 256.
func (m metrics) longestPause() (longest float64) {
	for _, each := range m["go_gc_duration_seconds"].GetMetric() {
		for _, q := range each.GetSummary().GetQuantile() {
			longest = max(longest, q.GetValue())
		}
	}
	return longest
}
