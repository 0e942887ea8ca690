// Package collector exports what the aggregator knows as Prometheus metrics: its
// exporters' state, the fleet's traffic and cardinalities, and the heavy
// prefixes, of which there are at most 1/phi a dimension.
package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// Configuration is what the metrics are about.
type Configuration struct {
	Phi                float64
	HHHWindow          time.Duration
	CardinalityWindows []time.Duration
}

// Collector is a prometheus.Collector. Each scrape computes its own values.
type Collector struct {
	configuration Configuration
	store         *store.Store
	statuses      func() []scrape.Status
	now           func() time.Time
}

// New returns a collector. statuses returns the state of each target, now is the
// clock.
func New(configuration Configuration, s *store.Store, statuses func() []scrape.Status, now func() time.Time) *Collector {
	return &Collector{configuration: configuration, store: s, statuses: statuses, now: now}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	exporterUp       = desc("tma_exporter_up", "1 if the last poll of the exporter succeeded, 0 otherwise.", "exporter")
	exporterLag      = desc("tma_exporter_lag_seconds", "Age of the exporter's newest epoch.", "exporter")
	exporterMissed   = desc("tma_exporter_missed_epochs_total", "Epochs that were gone from the exporter before they were read.", "exporter")
	exporterRefused  = desc("tma_exporter_refused_epochs_total", "Epochs that were out of the range of time that is kept.", "exporter")
	exporterReceived = desc("tma_exporter_received_bytes_total", "Bytes of answers, as on the wire.", "exporter")
	exporterPolls    = desc("tma_exporter_polls_total", "Polls of the exporter.", "exporter")
	exporterErrors   = desc("tma_exporter_poll_errors_total", "Polls of the exporter that failed.", "exporter")
	exporterDuration = desc("tma_exporter_poll_duration_seconds", "Duration of the last poll, waiting for an epoch included.", "exporter")
	exporterSkew     = desc("tma_exporter_clock_skew_seconds", "How far the exporter's clock is ahead of the aggregator's; absent if the exporter doesn't say.", "exporter")
	exporterSkewErr  = desc("tma_exporter_clock_skew_error_seconds", "By how much tma_exporter_clock_skew_seconds may be wrong.", "exporter")
	exporterSketches = desc("tma_exporter_refused_sketches_total", "Sketches that were made under another key than the fleet's.", "exporter")

	fleetPackets          = desc("tma_fleet_packets_total", "Packets of the fleet, each counted once; a few seconds late, when it is certain who counts them.")
	fleetBytes            = desc("tma_fleet_bytes_total", "Bytes of the fleet, each counted once; a few seconds late, when it is certain who counts them.")
	fleetRemainderPackets = desc("tma_fleet_remainder_packets_total", "Packets that exporters saw without knowing their flows; not in tma_fleet_packets_total.")
	fleetRemainderBytes   = desc("tma_fleet_remainder_bytes_total", "Bytes that exporters saw without knowing their flows; not in tma_fleet_bytes_total.")

	cardinality      = desc("tma_fleet_cardinality", "Estimated number of distinct things that any host saw in the window.", "of", "window")
	cardinalityError = desc("tma_fleet_cardinality_relative_error", "Standard error of tma_fleet_cardinality, as a fraction of it.")

	hhhBytes = desc("tma_hhh_bytes_per_second", "Traffic of heavy prefixes, what is heavy below them included.", "dimension", "prefix")
	hhhError = desc("tma_hhh_error_bytes_per_second", "By how much the traffic of the prefix may be more than was counted.", "dimension", "prefix")
)

var descriptions = []*prometheus.Desc{
	exporterUp, exporterLag, exporterMissed, exporterRefused, exporterReceived, exporterPolls, exporterErrors,
	exporterDuration, exporterSketches, exporterSkew, exporterSkewErr, fleetPackets, fleetBytes, fleetRemainderPackets, fleetRemainderBytes,
	cardinality, cardinalityError, hhhBytes, hhhError,
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	c.collectExporters(to)
	c.collectFleet(to)
	c.collectHeavy(to)
}

func gauge(to chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func counter(to chan<- prometheus.Metric, d *prometheus.Desc, value uint64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func (c *Collector) collectExporters(to chan<- prometheus.Metric) {
	refused := c.store.RefusedSketches()
	skews := c.store.Skews()
	for _, s := range c.statuses() {
		up := 0.0
		if s.Up {
			up = 1
		}
		gauge(to, exporterUp, up, s.Name)
		gauge(to, exporterLag, s.Lag(c.now()).Seconds(), s.Name)
		gauge(to, exporterDuration, s.LastDuration.Seconds(), s.Name)
		counter(to, exporterMissed, s.MissedEpochs, s.Name)
		counter(to, exporterRefused, s.RefusedEpochs, s.Name)
		counter(to, exporterReceived, s.ReceivedBytes, s.Name)
		counter(to, exporterPolls, s.Polls, s.Name)
		counter(to, exporterErrors, s.Errors, s.Name)
		counter(to, exporterSketches, refused[s.Name], s.Name)
		if skew, known := skews[s.Name]; known {
			gauge(to, exporterSkew, skew.Offset.Seconds(), s.Name)
			gauge(to, exporterSkewErr, skew.Error.Seconds(), s.Name)
		}
	}
}

func (c *Collector) collectFleet(to chan<- prometheus.Metric) {
	totals := c.store.Totals()
	counter(to, fleetPackets, totals.Counted.Packets)
	counter(to, fleetBytes, totals.Counted.Bytes)
	counter(to, fleetRemainderPackets, totals.Remainder.Packets)
	counter(to, fleetRemainderBytes, totals.Remainder.Bytes)
	gauge(to, cardinalityError, hll.RelativeError)
	for _, window := range c.configuration.CardinalityWindows {
		for of, estimate := range c.store.Last(window).Distinct() {
			gauge(to, cardinality, estimate, of, model.Duration(window).String())
		}
	}
}

func (c *Collector) collectHeavy(to chan<- prometheus.Metric) {
	window := c.store.Last(c.configuration.HHHWindow)
	seconds := window.Seconds()
	if seconds == 0 {
		return
	}
	for _, d := range flow.Dimensions {
		for _, h := range window.Tree(d).Heavy(c.configuration.Phi) {
			gauge(to, hhhBytes, float64(h.Bytes)/seconds, d.String(), h.String())
			gauge(to, hhhError, float64(h.Upper-h.Lower)/seconds, d.String(), h.String())
		}
	}
}
