package collector

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/poll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// newCollector has one exporter that is up, with traffic in one half second, and
// one that is down.
func newCollector(t *testing.T) *Collector {
	t.Helper()
	t0 := time.Unix(1_700_000_000, 0)
	now := t0
	clock := func() time.Time { return now }
	s := store.New(store.DefaultConfiguration(), clock)
	s.SetNetworks(networks.NewTable([]networks.Network{{Prefix: yamlconf.Prefix{Prefix: netip.MustParsePrefix("10.0.0.0/8")}, Name: "corp"}}))
	s.SetUp("a:1", true)
	end := t0.Add(500 * time.Millisecond)
	sketch := &hll.Sketch{}
	sketch.Insert(1)
	e := &epoch.Epoch{
		Sequence: 1, Start: t0, End: end,
		Flows: []epoch.Flow{{
			Key: flow.Key{
				Source:      netip.MustParseAddr("10.0.0.1").As16(),
				Destination: netip.MustParseAddr("2001:db8::1").As16(),
			},
			Count: epoch.Count{Packets: 50, Bytes: 5000},
		}},
		Devices:  []epoch.Device{{Remainder: epoch.Count{Packets: 1, Bytes: 100}}},
		Sketches: []epoch.Sketch{{Of: epoch.OfFlows, HLL: sketch}, {Of: epoch.OfSources, KeyFingerprint: 9, HLL: sketch}},
	}
	e.SampledPairs = &pairs.Thinned{Pairs: []pairs.Pair{{Source: e.Flows[0].Source, Destination: e.Flows[0].Destination}}}
	if err := s.Append("a:1", e); err != nil {
		t.Fatal(err)
	}
	statuses := func() []scrape.Status {
		return []scrape.Status{
			{Target: scrape.Target{Name: "a:1"}, Up: true, LastEpoch: end, MissedEpochs: 2, ReceivedBytes: 77, Polls: 5, LastDuration: time.Second},
			{Target: scrape.Target{Name: "b:1"}, Polls: 4, Errors: map[poll.Reason]uint64{poll.Timeout: 3, poll.Invalid: 1}, RefusedEpochs: 1},
		}
	}
	now = t0.Add(12 * time.Second) // the second is closed
	return New(Configuration{Phi: 0.01, HHHWindow: 15 * time.Second, CardinalityWindows: []time.Duration{time.Minute}}, s, statuses, clock)
}

func TestMetrics(t *testing.T) {
	want := `
# HELP tma_exporter_lag_seconds Age of the exporter's newest epoch.
# TYPE tma_exporter_lag_seconds gauge
tma_exporter_lag_seconds{exporter="a:1"} 11.5
tma_exporter_lag_seconds{exporter="b:1"} 0
# HELP tma_exporter_missed_epochs_total Epochs that were gone from the exporter before they were read.
# TYPE tma_exporter_missed_epochs_total counter
tma_exporter_missed_epochs_total{exporter="a:1"} 2
tma_exporter_missed_epochs_total{exporter="b:1"} 0
# HELP tma_exporter_received_bytes_total Bytes of answers, as on the wire.
# TYPE tma_exporter_received_bytes_total counter
tma_exporter_received_bytes_total{exporter="a:1"} 77
tma_exporter_received_bytes_total{exporter="b:1"} 0
# HELP tma_exporter_refused_sketches_total Sketches that were made under another key than the fleet's.
# TYPE tma_exporter_refused_sketches_total counter
tma_exporter_refused_sketches_total{exporter="a:1"} 1
tma_exporter_refused_sketches_total{exporter="b:1"} 0
# HELP tma_exporter_up 1 if the last poll of the exporter succeeded, 0 otherwise.
# TYPE tma_exporter_up gauge
tma_exporter_up{exporter="a:1"} 1
tma_exporter_up{exporter="b:1"} 0
# HELP tma_fleet_bytes_total Bytes of the fleet, each counted once; a few seconds late, when it is certain who counts them.
# TYPE tma_fleet_bytes_total counter
tma_fleet_bytes_total 5000
# HELP tma_fleet_cardinality Estimated number of distinct things that any host saw in the window.
# TYPE tma_fleet_cardinality gauge
tma_fleet_cardinality{of="flows",window="1m"} 1.0000241692452787
# HELP tma_fleet_packets_total Packets of the fleet, each counted once; a few seconds late, when it is certain who counts them.
# TYPE tma_fleet_packets_total counter
tma_fleet_packets_total 50
# HELP tma_fleet_remainder_bytes_total Bytes that exporters saw without knowing their flows; not in tma_fleet_bytes_total.
# TYPE tma_fleet_remainder_bytes_total counter
tma_fleet_remainder_bytes_total 100
# HELP tma_hhh_bytes_per_second Traffic of heavy prefixes, what is heavy below them included.
# TYPE tma_hhh_bytes_per_second gauge
tma_hhh_bytes_per_second{dimension="destination",prefix="2001:db8::1/128"} 333.3333333333333
tma_hhh_bytes_per_second{dimension="source",prefix="10.0.0.1/32"} 333.3333333333333
# HELP tma_hhh_error_bytes_per_second By how much the traffic of the prefix may be more than was counted.
# TYPE tma_hhh_error_bytes_per_second gauge
tma_hhh_error_bytes_per_second{dimension="destination",prefix="2001:db8::1/128"} 6.666666666666667
tma_hhh_error_bytes_per_second{dimension="source",prefix="10.0.0.1/32"} 6.666666666666667
# HELP tma_network_bytes_total Bytes from one named network to another; they add up to tma_fleet_bytes_total. unnamed is what is in none, unknown what had its flow folded.
# TYPE tma_network_bytes_total counter
tma_network_bytes_total{destination_network="unnamed",source_network="corp"} 5000
# HELP tma_network_destination_packets_total Packets to a named network, those included of which tma_network_packets_total doesn't know both ends.
# TYPE tma_network_destination_packets_total counter
tma_network_destination_packets_total{destination_network="unnamed"} 50
# HELP tma_fleet_destination_distinct_sources Estimated number of distinct sources of a destination in the last minute, at all hosts together, for the destinations with the most: a victim of a flood, or a busy server.
# TYPE tma_fleet_destination_distinct_sources gauge
tma_fleet_destination_distinct_sources{destination="2001:db8::1"} 1
# HELP tma_fleet_distinct_peers_sample_ratio Share of all pairs of addresses by which distinct peers are estimated. At 1 they are exact; below, a number n has a relative standard error of at most 1/sqrt(n*ratio) or 0.032, whichever is more.
# TYPE tma_fleet_distinct_peers_sample_ratio gauge
tma_fleet_distinct_peers_sample_ratio 1
# HELP tma_fleet_entropy_ratio Entropy of the packets' sources or destinations, divided by the logarithm of their number: 1 if all have equally many packets, 0 if one has all.
# TYPE tma_fleet_entropy_ratio gauge
tma_fleet_entropy_ratio{of="destinations",window="15s"} 0
tma_fleet_entropy_ratio{of="sources",window="15s"} 0
# HELP tma_fleet_heaviest_ratio Share of all bytes that the source or destination with the most has.
# TYPE tma_fleet_heaviest_ratio gauge
tma_fleet_heaviest_ratio{of="destinations",window="15s"} 1
tma_fleet_heaviest_ratio{of="sources",window="15s"} 1
# HELP tma_fleet_source_distinct_destinations Estimated number of distinct destinations of a source in the last minute, at all hosts together, for the sources with the most: a scanner, or a busy server.
# TYPE tma_fleet_source_distinct_destinations gauge
tma_fleet_source_distinct_destinations{source="10.0.0.1"} 1
`
	err := testutil.CollectAndCompare(newCollector(t), strings.NewReader(want),
		"tma_exporter_up", "tma_exporter_lag_seconds", "tma_exporter_missed_epochs_total", "tma_exporter_received_bytes_total",
		"tma_exporter_refused_sketches_total", "tma_fleet_bytes_total", "tma_fleet_packets_total", "tma_fleet_remainder_bytes_total",
		"tma_fleet_cardinality", "tma_hhh_bytes_per_second", "tma_hhh_error_bytes_per_second",
		"tma_fleet_destination_distinct_sources", "tma_fleet_distinct_peers_sample_ratio", "tma_fleet_entropy_ratio",
		"tma_fleet_heaviest_ratio", "tma_fleet_source_distinct_destinations",
		"tma_network_bytes_total", "tma_network_destination_packets_total")
	if err != nil {
		t.Error(err)
	}
}

func TestLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(newCollector(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Every metric that is collected was described: a pedantic registry checks.
func TestDescribed(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(t))
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
}
