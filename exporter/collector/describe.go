package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// pair describes a metric in packets and one in bytes.
type pair struct{ packets, bytes *prometheus.Desc }

// counters describes tma_<name>_packets_total and tma_<name>_bytes_total.
func counters(name, what string, labels ...string) pair {
	return pair{
		packets: prometheus.NewDesc("tma_"+name+"_packets_total", "Packets "+what, labels, nil),
		bytes:   prometheus.NewDesc("tma_"+name+"_bytes_total", "Bytes, layer 2 header included, "+what, labels, nil),
	}
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tma_"+name, help, labels, nil)
}

// descriptions are those of every metric that Collector makes itself.
type descriptions struct {
	total, duplicate, remainder, other, folded, flow, unaccounted, doubtful, hidden pair

	epochs, attached *prometheus.Desc

	flowBytes, flowPackets, sourceBytes, destinationBytes, serviceBytes *prometheus.Desc
	entries, topkError, admissions, evictions                           *prometheus.Desc

	cardinality, cardinalityError, entropy            *prometheus.Desc
	distinctDestinations, distinctSources, peersRatio *prometheus.Desc
}

func newDescriptions() descriptions {
	device := []string{"device", "direction"}
	tuple := []string{"source", "destination", "source_port", "destination_port", "protocol"}
	return descriptions{
		total:     counters("capture", "seen by the hook, as on the wire.", device...),
		duplicate: counters("capture_duplicate", "seen here but counted at another device of the host.", device...),
		remainder: counters("capture_remainder", "whose flow is unknown because the ring buffer was full.", device...),
		other:     counters("capture_other", "that are not counted under a 5-tuple, by the reason.", append(device, "reason")...),
		folded:    counters("capture_folded", "counted under a prefix because the flow table was full, by its length.", "dimension", "level"),
		flow:      counters("capture_flow", "counted under a 5-tuple."),
		unaccounted: counters("capture_unaccounted",
			"by which what was seen and what was counted differ; always 0."),
		doubtful: counters("capture_doubtful",
			"counted under a 5-tuple or a prefix that may be counted twice: the host forwards, and has no room to remember which device counted their flow."),
		hidden: counters("capture_hidden",
			"among the duplicates that may not be counted at all: another device counts their flow, and hasn't seen as much of it in the epoch."),
		epochs:   gauge("capture_epochs_total", "Epochs drained from the kernel."),
		attached: gauge("capture_attached", "1 for each device and direction that is captured on.", "device", "direction", "hook"),

		flowBytes: gauge("flow_bytes_per_second",
			"Rate over topk.window of a top flow, or with topk.labels networks of a top pair of networks, whose ports and protocol are empty; the series with other in every label is all other traffic.",
			tuple...),
		flowPackets: gauge("flow_packets_per_second",
			"Rate over topk.window of what has the same labels in tma_flow_bytes_per_second; the series with other in every label is all other traffic.",
			tuple...),
		sourceBytes: gauge("source_bytes_per_second",
			"Rate over topk.window of a top source, by address or network as topk.labels says; the series other is all other traffic.", "source"),
		destinationBytes: gauge("destination_bytes_per_second",
			"Rate over topk.window of a top destination, by address or network as topk.labels says; the series other is all other traffic.", "destination"),
		serviceBytes: gauge("service_bytes_per_second",
			"Rate over topk.window of a top service; the series with other in every label is all other traffic.",
			"protocol", "port", "service"),
		entries: gauge("topk_entries", "Top flows, sources, destinations and services that have a series besides other; at most topk.k.", "of"),
		topkError: gauge("topk_error_bytes_per_second",
			"By how much the rate of a top flow, source, destination or service may be higher than its series, at most; what is missing there is in other.", "of"),
		admissions: gauge("topk_admissions_total", "Times that a flow, source, destination or service got a series.", "of"),
		evictions:  gauge("topk_evictions_total", "Times that a flow, source, destination or service lost its series.", "of"),

		cardinality: gauge("cardinality", "Estimated number of distinct flows, sources and so on in a sliding window.", "of", "window"),
		cardinalityError: gauge("cardinality_relative_error",
			"Standard error of tma_cardinality, as a fraction of it.", "of"),
		entropy: gauge("entropy_ratio",
			"Entropy of the packets' sources or destinations in a sliding window, divided by the logarithm of their number: 1 if all have equally many packets, 0 if one has all.",
			"of", "window"),

		distinctDestinations: gauge("source_distinct_destinations",
			"Estimated number of distinct destinations of a source in the last minute, for the sources with the most: a scanner, or a busy server.", "source"),
		distinctSources: gauge("destination_distinct_sources",
			"Estimated number of distinct sources of a destination in the last minute, for the destinations with the most: a victim of a flood, or a busy server.", "destination"),
		peersRatio: gauge("distinct_peers_sample_ratio",
			"Share of all pairs of addresses by which distinct peers are estimated. At 1 they are exact; below, a number n has a relative standard error of at most 1/sqrt(n*ratio) or 0.032, whichever is more."),
	}
}

// all returns every description.
func (d *descriptions) all() []*prometheus.Desc {
	descs := []*prometheus.Desc{
		d.epochs, d.attached,
		d.flowBytes, d.flowPackets, d.sourceBytes, d.destinationBytes, d.serviceBytes,
		d.entries, d.topkError, d.admissions, d.evictions,
		d.cardinality, d.cardinalityError, d.entropy,
		d.distinctDestinations, d.distinctSources, d.peersRatio,
	}
	for _, p := range []pair{d.total, d.duplicate, d.remainder, d.other, d.folded, d.flow, d.unaccounted, d.doubtful, d.hidden} {
		descs = append(descs, p.packets, p.bytes)
	}
	return descs
}

// emitter sends the metrics of one scrape.
type emitter struct {
	*descriptions
	to chan<- prometheus.Metric
}

func (m emitter) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	m.to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func (m emitter) counter(desc *prometheus.Desc, value uint64, since time.Time, labels ...string) {
	m.to <- prometheus.MustNewConstMetricWithCreatedTimestamp(
		desc, prometheus.CounterValue, float64(value), since, labels...)
}

func (m emitter) counters(p pair, c epoch.Count, since time.Time, labels ...string) {
	m.counter(p.packets, c.Packets, since, labels...)
	m.counter(p.bytes, c.Bytes, since, labels...)
}
