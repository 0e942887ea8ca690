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

// Collector is a prometheus.Collector. The exporters' state is that of the scrape, and so
// are distinct peers; all else is a second older, or more where it takes long to compute.
type Collector struct {
	configuration Configuration
	store         *store.Store
	statuses      func() []scrape.Status
	now           func() time.Time
	fleet         refresher
}

// New returns a collector. statuses returns the state of each target, now is the
// clock.
func New(configuration Configuration, s *store.Store, statuses func() []scrape.Status, now func() time.Time) *Collector {
	c := &Collector{configuration: configuration, store: s, statuses: statuses, now: now}
	c.fleet.compute = c.computeFleet
	return c
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
	exporterErrors   = desc("tma_exporter_poll_errors_total", "Polls of the exporter that failed, by reason.", "exporter", "reason")
	exporterDuration = desc("tma_exporter_poll_duration_seconds", "Duration of the last poll, waiting for an epoch included.", "exporter")
	exporterSkew     = desc("tma_exporter_clock_skew_seconds", "How far the exporter's clock is ahead of the aggregator's; absent if the exporter doesn't say.", "exporter")
	exporterSkewErr  = desc("tma_exporter_clock_skew_error_seconds", "By how much tma_exporter_clock_skew_seconds may be wrong.", "exporter")
	exporterSketches = desc("tma_exporter_refused_sketches_total", "Sketches that were made under another key than the fleet's.", "exporter")
	exporterBelow    = desc("tma_exporter_below", "Exporters below a target that is an aggregator; 0 of an exporter itself.", "exporter")
	exporterBelowUp  = desc("tma_exporter_below_up", "Of the exporters below a target that is an aggregator, those that answer.", "exporter")

	fleetPackets          = desc("tma_fleet_packets_total", "Packets of the fleet, each counted once; a few seconds late, when it is certain who counts them.")
	fleetBytes            = desc("tma_fleet_bytes_total", "Bytes of the fleet, each counted once; a few seconds late, when it is certain who counts them.")
	fleetRemainderPackets = desc("tma_fleet_remainder_packets_total", "Packets that exporters saw without knowing their flows; not in tma_fleet_packets_total.")
	fleetRemainderBytes   = desc("tma_fleet_remainder_bytes_total", "Bytes that exporters saw without knowing their flows; not in tma_fleet_bytes_total.")

	networkBytes              = desc("tma_network_bytes_total", "Bytes from one named network to another; they add up to tma_fleet_bytes_total. unnamed is what is in none, unknown what had its flow folded.", "source_network", "destination_network")
	networkPackets            = desc("tma_network_packets_total", "Packets from one named network to another; they add up to tma_fleet_packets_total. unnamed is what is in none, unknown what had its flow folded.", "source_network", "destination_network")
	networkDestinationBytes   = desc("tma_network_destination_bytes_total", "Bytes to a named network, those included of which tma_network_bytes_total doesn't know both ends.", "destination_network")
	networkDestinationPackets = desc("tma_network_destination_packets_total", "Packets to a named network, those included of which tma_network_packets_total doesn't know both ends.", "destination_network")

	cardinality      = desc("tma_fleet_cardinality", "Estimated number of distinct things that any host saw in the window.", "of", "window")
	cardinalityError = desc("tma_fleet_cardinality_relative_error", "Standard error of tma_fleet_cardinality, as a fraction of it.")

	fleetSourcePeers      = desc("tma_fleet_source_distinct_destinations", "Estimated number of distinct destinations of a source in the last minute, at all hosts together, for the sources with the most: a scanner, or a busy server.", "source")
	fleetDestinationPeers = desc("tma_fleet_destination_distinct_sources", "Estimated number of distinct sources of a destination in the last minute, at all hosts together, for the destinations with the most: a victim of a flood, or a busy server.", "destination")
	fleetPeersRatio       = desc("tma_fleet_distinct_peers_sample_ratio", "Share of all pairs of addresses by which distinct peers are estimated. At 1 they are exact; below, a number n has a relative standard error of at most 1/sqrt(n*ratio) or 0.032, whichever is more.")
	fleetEntropy          = desc("tma_fleet_entropy_ratio", "Entropy of the packets' sources or destinations, divided by the logarithm of their number: 1 if all have equally many packets, 0 if one has all.", "of", "window")
	fleetHeaviest         = desc("tma_fleet_heaviest_ratio", "Share of all bytes that the source or destination with the most has.", "of", "window")

	hhhBytes = desc("tma_hhh_bytes_per_second", "Traffic of heavy prefixes, what is heavy below them included.", "dimension", "prefix")
	hhhError = desc("tma_hhh_error_bytes_per_second", "By how much the traffic of the prefix may be more than was counted.", "dimension", "prefix")
)

var descriptions = []*prometheus.Desc{
	exporterUp, exporterLag, exporterMissed, exporterRefused, exporterReceived, exporterPolls, exporterErrors,
	exporterDuration, exporterSketches, exporterSkew, exporterSkewErr, exporterBelow, exporterBelowUp,
	fleetPackets, fleetBytes, fleetRemainderPackets, fleetRemainderBytes,
	networkBytes, networkPackets, networkDestinationBytes, networkDestinationPackets,
	cardinality, cardinalityError, hhhBytes, hhhError,
	fleetSourcePeers, fleetDestinationPeers, fleetPeersRatio, fleetEntropy, fleetHeaviest,
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
	for _, m := range c.fleet.read() {
		to <- m
	}
	collectPeers(to, c.store.Peers())
}

// computeFleet returns those metrics of the fleet that take long.
func (c *Collector) computeFleet() (all []prometheus.Metric) {
	to := make(chan prometheus.Metric, 100)
	go func() {
		defer close(to)
		c.collectFleet(to)
		c.collectHeavy(to)
	}()
	for m := range to {
		all = append(all, m)
	}
	return all
}

func gauge(to chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func counter(to chan<- prometheus.Metric, d *prometheus.Desc, value uint64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func (c *Collector) collectExporters(to chan<- prometheus.Metric) {
	refused, below, skews := c.store.RefusedSketches(), c.store.Below(), c.store.Skews()
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
		for reason, n := range s.Errors {
			counter(to, exporterErrors, n, s.Name, string(reason))
		}
		counter(to, exporterSketches, refused[s.Name], s.Name)
		gauge(to, exporterBelow, float64(below[s.Name].Known), s.Name)
		gauge(to, exporterBelowUp, float64(below[s.Name].Up), s.Name)
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
	collectNetworks(to, &totals)
	gauge(to, cardinalityError, hll.RelativeError)
	for _, window := range c.configuration.CardinalityWindows {
		for of, estimate := range c.store.Last(window).Distinct() {
			gauge(to, cardinality, estimate, of, model.Duration(window).String())
		}
	}
}

func collectNetworks(to chan<- prometheus.Metric, totals *store.Totals) {
	for _, n := range totals.Networks {
		counter(to, networkBytes, n.Bytes, n.Source, n.Destination)
		counter(to, networkPackets, n.Packets, n.Source, n.Destination)
	}
	for _, n := range totals.Destinations {
		counter(to, networkDestinationBytes, n.Bytes, n.Name)
		counter(to, networkDestinationPackets, n.Packets, n.Name)
	}
}

// collectHeavy exports what trees of both dimensions tell.
func (c *Collector) collectHeavy(to chan<- prometheus.Metric) {
	window := c.store.Last(c.configuration.HHHWindow)
	if window.Seconds() == 0 {
		return
	}
	distinct := window.Distinct()
	for _, d := range flow.Dimensions {
		tree := window.Tree(d)
		for _, h := range tree.Heavy(c.configuration.Phi) {
			gauge(to, hhhBytes, float64(h.Bytes)/window.Seconds(), d.String(), h.String())
			gauge(to, hhhError, float64(h.Upper-h.Lower)/window.Seconds(), d.String(), h.String())
		}
		c.collectSpread(to, tree, d, distinct[distinctOf[d]])
	}
}
