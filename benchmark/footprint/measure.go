package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/traffic-monitor-agent/tma/benchmark/load"
)

// settings say what is measured and for how long.
type settings struct {
	Repeats   int           `json:"repeats"`
	Duration  time.Duration `json:"duration"`
	WarmUp    time.Duration `json:"warm_up"`
	Rate      int           `json:"rate"` // packets a second; 0: as many as can be sent
	Program   string        `json:"program"`
	Arguments []string      `json:"arguments"`
}

// row is a load and the processor time that it may cost.
type row struct {
	name string
	load *load.Workload // nil: no packets
	bar  float64        // at most, of a core; 0: none
}

func rows() []row {
	uniform, zipf := load.Uniform("100,000 flows", 100_000), load.Zipf("Zipf(1.1) of 100,000", 100_000, 1.1)
	return []row{
		{"idle", nil, 0.005},
		{zipf.Name, &zipf, 0.08},
		{uniform.Name, &uniform, 0.20},
		{"every packet a new flow", &load.Workload{}, 0},
	}
}

// measurement is one run of the exporter under one load.
type measurement struct {
	Workload    string    `json:"workload"`
	Repeat      int       `json:"repeat"`
	Seconds     float64   `json:"seconds"`
	Packets     uint64    `json:"packets"`
	User        float64   `json:"user_seconds"`
	System      float64   `json:"system_seconds"`
	Memory      memory    `json:"memory"` // the largest that was seen
	Peak        uint64    `json:"peak"`   // resident bytes, since the start
	Scrapes     []float64 `json:"scrapes"`
	Pause       float64   `json:"pause"`       // the collector's longest, in seconds
	Collections float64   `json:"collections"` // since the start
	Lost        int64     `json:"lost"`        // packets that were sent and not counted
	Unknown     float64   `json:"unknown"`     // packets whose flow is unknown, as the ring was full
}

// processor is the share of a core that the process took.
func (m *measurement) processor() float64 { return (m.User + m.System) / m.Seconds }

// rate is in packets a second.
func (m *measurement) rate() float64 { return float64(m.Packets) / m.Seconds }

// run is an exporter under load.
type run struct {
	*exporter
	wire *load.Wire
	from *load.Source // nil: nothing is sent
	rate int
	sent uint64
}

// measure starts the exporter, loads it for a while and then measures.
func measure(w *load.Wire, s settings, r row) (m *measurement, err error) {
	e, err := startExporter(w, s.Program, s.Arguments)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	u := &run{exporter: e, wire: w, rate: s.Rate}
	if r.load != nil {
		u.from = load.NewSource(*r.load)
	}
	undo, err := load.Pin()
	if err != nil {
		return nil, err
	}
	defer undo()
	if err := u.send(s.WarmUp); err != nil {
		return nil, err
	}
	m = &measurement{Workload: r.name}
	if err := u.measure(m, s.Duration); err != nil {
		return nil, err
	}
	return m, u.settle(m)
}

// asFast is a rate that no sender reaches.
const asFast = 1_000_000_000

// chunk is how many packets are sent before the time is looked at.
const chunk = 20_000

// send sends for some time, or waits as long.
func (u *run) send(d time.Duration) error {
	if u.from == nil {
		time.Sleep(d)
		return nil
	}
	rate := u.rate
	if rate == 0 {
		rate = asFast
	}
	packets := min(chunk, max(1, rate/10))
	for start := time.Now(); time.Since(start) < d; {
		if err := u.wire.Sender.Send(u.from, packets, rate); err != nil {
			return err
		}
		u.sent += uint64(packets)
	}
	return nil
}

const (
	// scrapeInterval is more often than Prometheus is told to scrape, as a rule.
	scrapeInterval = 5 * time.Second
	// Scrapes are timed after the processor time was taken, under the same load.
	timedScrapes        = 3 * time.Second
	timedScrapeInterval = 100 * time.Millisecond
)

// measure takes processor time with a scrape now and then, and then the time of scrapes.
func (u *run) measure(m *measurement, d time.Duration) error {
	before, err := processorTimeOf(u.Pid())
	if err != nil {
		return err
	}
	start, sent := time.Now(), u.sent
	if err := u.observed(m, d, scrapeInterval); err != nil {
		return err
	}
	m.Seconds, m.Packets = time.Since(start).Seconds(), u.sent-sent
	after, err := processorTimeOf(u.Pid())
	if err != nil {
		return err
	}
	m.User, m.System = (after.user - before.user).Seconds(), (after.system - before.system).Seconds()
	return u.observed(m, timedScrapes, timedScrapeInterval)
}

// observed sends for some time, while the exporter is scraped.
func (u *run) observed(m *measurement, d, interval time.Duration) error {
	ending, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- u.observe(m, interval, ending) }()
	err := u.send(d)
	close(ending)
	return errors.Join(err, <-done)
}

// observe scrapes and looks at the memory until told to end.
func (u *run) observe(m *measurement, interval time.Duration, ending <-chan struct{}) error {
	every := time.NewTicker(interval)
	defer every.Stop()
	for {
		select {
		case <-ending:
			return nil
		case <-every.C:
		}
		_, took, err := u.scrape()
		if err != nil {
			return err
		}
		m.Scrapes = append(m.Scrapes, took.Seconds())
		now, err := memoryOf(u.Pid())
		if err != nil {
			return err
		}
		if now.Resident > m.Memory.Resident {
			m.Memory = now
		}
	}
}

// settleTimeout is how long the last packets may take to be in an epoch.
const settleTimeout = 5 * time.Second

// settle compares what was sent with what was counted, and reads what is since the start.
func (u *run) settle(m *measurement) (err error) {
	for deadline := time.Now().Add(settleTimeout); ; time.Sleep(100 * time.Millisecond) {
		now, _, err := u.scrape()
		if err != nil {
			return err
		}
		m.Lost = int64(u.sent) - int64(now.sum("tma_capture_packets_total"))
		m.Unknown = now.sum("tma_capture_remainder_packets_total")
		m.Pause, m.Collections = now.longestPause(), float64(now["go_gc_duration_seconds"].GetMetric()[0].GetSummary().GetSampleCount())
		if left := now.sum("tma_capture_unaccounted_packets_total"); left != 0 {
			return fmt.Errorf("%g packets unaccounted", left)
		}
		if m.Lost == 0 || time.Now().After(deadline) {
			break
		}
	}
	m.Peak, err = peakOf(u.Pid())
	return err
}
