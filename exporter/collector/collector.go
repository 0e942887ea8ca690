// Package collector makes the exporter's Prometheus metrics of the epochs. Their
// number is bounded, whatever the traffic: by the devices of the host, the levels
// of the ladders and topk.k.
package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// Config is what a Collector reads at a scrape, each safe for concurrent use.
type Config struct {
	Attachments func() []capture.Attachment
	Top         func() *window.Top // may return nil, for nothing yet
	Cardinality func() []window.Estimate
	Entropy     func([]window.Estimate) []window.EntropyRatio
	Peers       func() *window.TopPeers // may return nil, for nothing yet
	// Names returns the networks that go by name rather than by address, or nil.
	Names func() *networks.Table
	Start time.Time // of the process: since when the counters count
}

// Collector is a prometheus.Collector. Its counters are all as of the end of the
// last epoch, so that their sum over flows, folded, remainder, other and
// duplicates is exactly what the hooks saw, in every scrape.
type Collector struct {
	config Config
	descs  descriptions
	totals *totals
	drain  prometheus.Histogram
}

// New returns a Collector whose counters are 0.
func New(c Config) *Collector {
	return &Collector{
		config: c,
		descs:  newDescriptions(),
		totals: newTotals(),
		drain: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                            "tma_capture_drain_duration_seconds",
			Help:                            "Time it took to drain an epoch from the kernel.",
			Buckets:                         []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
	}
}

// Add counts an epoch and the time it took to drain it. It reads e and keeps
// nothing of it.
func (c *Collector) Add(e *epoch.Epoch, drain time.Duration) {
	c.totals.add(e)
	c.drain.Observe(drain.Seconds())
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range c.descs.all() {
		to <- desc
	}
	c.drain.Describe(to)
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	m := emitter{&c.descs, to}
	c.collectTotals(m, c.totals.snapshot())
	collectAttachments(m, c.config.Attachments())
	if top := c.config.Top(); top != nil {
		c.collectTop(m, top)
	}
	estimates := c.config.Cardinality()
	collectCardinality(m, estimates)
	for _, r := range c.config.Entropy(estimates) {
		m.gauge(m.entropy, r.Value, r.Of, model.Duration(r.Window).String())
	}
	if peers := c.config.Peers(); peers != nil {
		c.collectPeers(m, peers, c.config.Names())
	}
	c.drain.Collect(to)
}

// collectAttachments sends each series once: two devices may have had one name,
// one after the other.
func collectAttachments(m emitter, attachments []capture.Attachment) {
	told := map[capture.Attachment]bool{}
	for _, a := range attachments {
		a.Device = printable(a.Device)
		if !told[a] {
			told[a] = true
			m.gauge(m.attached, 1, a.Device, a.Direction.String(), a.Hook)
		}
	}
}

func (c *Collector) collectTotals(m emitter, t *totals) {
	start := c.config.Start
	for key, d := range t.devices {
		device, direction := key.name, key.direction.String()
		m.counters(m.total, d.total, d.created, device, direction)
		m.counters(m.duplicate, d.duplicate, d.created, device, direction)
		m.counters(m.remainder, d.remainder, d.created, device, direction)
		for reason, count := range d.others {
			m.counters(m.other, count, d.created, device, direction, reason)
		}
	}
	for key, count := range t.folded {
		m.counters(m.folded, count, start, key.dimension.String(), key.level())
	}
	m.counters(m.flow, t.flows, start)
	m.counters(m.unaccounted, t.unaccounted, start)
	m.counters(m.doubtful, t.doubtful, start)
	m.counters(m.hidden, t.hidden, start)
	m.counter(m.epochs, t.epochs, start)
}

// level returns the step of a ladder as the label spells it: ipv4/24, ipv6/48.
func (k foldedKey) level() string {
	if k.ipv4 {
		return fmt.Sprintf("ipv4/%d", k.bits)
	}
	return fmt.Sprintf("ipv6/%d", k.bits)
}

// other is the value of every label of the series for all that has no own one.
const other = "other"

// collectTop sends the top of addresses, or of names where they are counted.
func (c *Collector) collectTop(m emitter, top *window.Top) {
	seconds := top.Span.Seconds()
	if seconds <= 0 {
		return
	}
	if n := top.Named; n != nil {
		collectRanking(c, m, epoch.OfFlows, &n.Pairs, seconds, pairLabels, m.flowBytes, m.flowPackets)
		collectRanking(c, m, epoch.OfSources, &n.Sources, seconds, nameLabel, m.sourceBytes, nil)
		collectRanking(c, m, epoch.OfDestinations, &n.Destinations, seconds, nameLabel, m.destinationBytes, nil)
		collectRanking(c, m, ofServices, &n.Services, seconds, namedServiceLabels, m.serviceBytes, nil)
		return
	}
	collectRanking(c, m, epoch.OfFlows, &top.Flows, seconds, flowLabels, m.flowBytes, m.flowPackets)
	collectRanking(c, m, epoch.OfSources, &top.Sources, seconds, addressLabel, m.sourceBytes, nil)
	collectRanking(c, m, epoch.OfDestinations, &top.Destinations, seconds, addressLabel, m.destinationBytes, nil)
	collectRanking(c, m, ofServices, &top.Services, seconds, serviceLabels, m.serviceBytes, nil)
}

const ofServices = "services"

// collectRanking sends a ranking as rates, in packets too if there is a metric for
// that, and what it says of itself.
func collectRanking[K comparable](
	c *Collector, m emitter, of string, r *window.Ranking[K], seconds float64,
	labels func(K) []string, bytes, packets *prometheus.Desc,
) {
	send := func(count epoch.Count, labels []string) {
		m.gauge(bytes, float64(count.Bytes)/seconds, labels...)
		if packets != nil {
			m.gauge(packets, float64(count.Packets)/seconds, labels...)
		}
	}
	for _, e := range r.Entries {
		send(e.Count, labels(e.Key))
	}
	var none K
	send(r.Other, slices.Repeat([]string{other}, len(labels(none))))
	m.gauge(m.topkError, float64(r.Missed)/seconds, of)
	c.collectSeries(m, of, len(r.Entries), r.Admissions, r.Evictions)
}

// collectSeries says how many series a ranking has, and how many came and went.
func (c *Collector) collectSeries(m emitter, of string, entries int, admissions, evictions uint64) {
	m.gauge(m.entries, float64(entries), of)
	m.counter(m.admissions, admissions, c.config.Start, of)
	m.counter(m.evictions, evictions, c.config.Start, of)
}

func flowLabels(k flow.Key) []string {
	return []string{
		k.SourceAddr().String(), k.DestinationAddr().String(),
		port(k.SourcePort), port(k.DestinationPort), flow.ProtocolName(k.Protocol),
	}
}

// pairLabels leaves ports and protocol empty: to Prometheus the labels aren't there, as
// in a sum by source and destination.
func pairLabels(p window.NetworkPair) []string { return []string{p.Source, p.Destination, "", "", ""} }

func addressLabel(address [16]byte) []string {
	return []string{netip.AddrFrom16(address).Unmap().String()}
}

func nameLabel(name string) []string { return []string{name} }

func serviceLabels(s flow.Service) []string {
	return []string{flow.ProtocolName(s.Protocol), port(s.Port), s.Name()}
}

// namedServiceLabels has no port where it stands for many.
func namedServiceLabels(s flow.Service) []string {
	labels := serviceLabels(s)
	if s.Port == 0 {
		labels[1] = ""
	}
	return labels
}

func port(p uint16) string { return strconv.Itoa(int(p)) }

func collectCardinality(m emitter, estimates []window.Estimate) {
	told := map[string]bool{}
	for _, e := range estimates {
		m.gauge(m.cardinality, e.Value, e.Of, model.Duration(e.Window).String())
		if !told[e.Of] {
			told[e.Of] = true
			m.gauge(m.cardinalityError, hll.RelativeError, e.Of)
		}
	}
}
