package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/traffic-monitor-agent/tma/exporter/capture"
)

// Source is a capture as Health sees it, safe for concurrent use; *capture.Capture is
// one.
type Source interface {
	Health() *capture.Health
	ProgramStats() []capture.ProgramStats
	Memory() []capture.MemoryUse
}

// HealthConfig is what a Health reads at a scrape.
type HealthConfig struct {
	Source Source
	Kept   func() (epochs, bytes int) // of the epochs for aggregators
	// Budgets in bytes: of the capture, and of the epochs for aggregators.
	CaptureMemory, EpochsMemory uint64
	Start                       time.Time // of the process: since when the counters count
}

// Health is a prometheus.Collector of how the capture does, and how full its bounded
// structures are.
type Health struct {
	config HealthConfig
	descs  healthDescriptions
}

// NewHealth returns a Health.
func NewHealth(c HealthConfig) *Health { return &Health{c, newHealthDescriptions()} }

type healthDescriptions struct {
	lastEpoch, lag            *prometheus.Desc
	cache, cacheLimit         *prometheus.Desc
	table, tableLimit         *prometheus.Desc
	ring, ringLimit           *prometheus.Desc
	evictions, folds          *prometheus.Desc
	memory, memoryLimit       *prometheus.Desc
	kept, keptBytes, keptRoom *prometheus.Desc
	programSeconds            *prometheus.Desc
	programRuns               *prometheus.Desc
}

func newHealthDescriptions() healthDescriptions {
	return healthDescriptions{
		lastEpoch:  gauge("capture_last_epoch_timestamp_seconds", "When the last epoch ended."),
		lag:        gauge("capture_epoch_lag_seconds", "By how much the last epoch ended after its time."),
		cache:      gauge("capture_cache_entries", "Slots of the kernel's flow cache that had traffic in the last epoch, of all CPUs."),
		cacheLimit: gauge("capture_cache_entries_limit", "Slots of the kernel's flow cache, of all CPUs."),
		table:      gauge("capture_flow_table_entries", "Entries of the flow table that had traffic in the last epoch: flows, once for each point that saw them."),
		tableLimit: gauge("capture_flow_table_entries_limit", "Entries that the flow table has room for."),
		ring:       gauge("capture_ring_peak_bytes", "Most bytes that waited in the ring buffer, in the last one to two minutes."),
		ringLimit:  gauge("capture_ring_limit_bytes", "Size of the ring buffer."),
		evictions:  gauge("capture_cache_evictions_total", "Entries that left the kernel's flow cache before the end of an epoch, through the ring buffer."),
		folds:      gauge("capture_folds_total", "Flows that lost their place in the full flow table and were counted under prefixes."),
		memory:     gauge("capture_memory_bytes", "Memory that capture.memory was split into, by part.", "part"),
		memoryLimit: gauge("capture_memory_limit_bytes",
			"The memory budget, capture.memory."),
		kept:      gauge("epochs_kept", "Epochs that are kept for aggregators."),
		keptBytes: gauge("epochs_kept_bytes", "Memory of the epochs that are kept for aggregators."),
		keptRoom:  gauge("epochs_limit_bytes", "Memory that epochs for aggregators may take, epochs.memory."),
		programSeconds: gauge("capture_program_seconds_total",
			"CPU time of the kernel program; there while kernel.bpf_stats_enabled is 1.", "direction"),
		programRuns: gauge("capture_program_runs_total",
			"Runs of the kernel program, one a packet or GSO packet; there while kernel.bpf_stats_enabled is 1.", "direction"),
	}
}

// Describe implements prometheus.Collector.
func (h *Health) Describe(to chan<- *prometheus.Desc) {
	d := &h.descs
	for _, desc := range []*prometheus.Desc{
		d.lastEpoch, d.lag, d.cache, d.cacheLimit, d.table, d.tableLimit, d.ring, d.ringLimit, d.evictions, d.folds,
		d.memory, d.memoryLimit, d.kept, d.keptBytes, d.keptRoom, d.programSeconds, d.programRuns,
	} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (h *Health) Collect(to chan<- prometheus.Metric) {
	d, m := &h.descs, emitter{to: to}
	if now := h.config.Source.Health(); now != nil {
		h.collectEpoch(m, now)
	}
	for _, use := range h.config.Source.Memory() {
		m.gauge(d.memory, float64(use.Bytes), use.Part)
	}
	m.gauge(d.memoryLimit, float64(h.config.CaptureMemory))
	epochs, bytes := h.config.Kept()
	m.gauge(d.kept, float64(epochs))
	m.gauge(d.keptBytes, float64(bytes))
	m.gauge(d.keptRoom, float64(h.config.EpochsMemory))
	for _, p := range h.config.Source.ProgramStats() {
		m.to <- prometheus.MustNewConstMetricWithCreatedTimestamp(
			d.programSeconds, prometheus.CounterValue, p.Time.Seconds(), h.config.Start, p.Direction.String())
		m.counter(d.programRuns, p.Runs, h.config.Start, p.Direction.String())
	}
}

func (h *Health) collectEpoch(m emitter, now *capture.Health) {
	d := &h.descs
	m.gauge(d.lastEpoch, float64(now.End.UnixNano())/1e9)
	m.gauge(d.lag, now.Lag.Seconds())
	m.gauge(d.cache, float64(now.CacheEntries))
	m.gauge(d.cacheLimit, float64(now.CacheRoom))
	m.gauge(d.table, float64(now.TableEntries))
	m.gauge(d.tableLimit, float64(now.TableRoom))
	m.gauge(d.ring, float64(now.RingPeak))
	m.gauge(d.ringLimit, float64(now.RingRoom))
	m.counter(d.evictions, now.Evictions, h.config.Start)
	m.counter(d.folds, now.Folds, h.config.Start)
}
