package collector_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/collector"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

var start = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// exporter is a Collector with what feeds it.
type exporter struct {
	*collector.Collector
	registry    *prometheus.Registry
	topk        *window.TopK
	cardinality *window.Cardinality
	entropy     *window.Entropy
	peers       *window.Peers
	names       *networks.Table
}

func newExporter(attachments ...capture.Attachment) *exporter {
	x := &exporter{
		registry:    prometheus.NewPedanticRegistry(),
		topk:        window.NewTopK(2, time.Second),
		cardinality: window.NewCardinality(),
		entropy:     window.NewEntropy(),
		peers:       window.NewPeers(2),
	}
	x.Collector = collector.New(collector.Config{
		Attachments: func() []capture.Attachment { return attachments },
		Top:         x.topk.Top,
		Cardinality: x.cardinality.Estimates,
		Entropy:     x.entropy.Ratios,
		Peers:       x.peers.Top,
		Names:       func() *networks.Table { return x.names },
		Start:       start,
	})
	x.registry.MustRegister(x.Collector)
	return x
}

func (x *exporter) add(e *epoch.Epoch) {
	x.Collector.Add(e, 3*time.Millisecond)
	x.topk.Add(e, e)
	x.cardinality.Add(e)
	x.entropy.Add(e)
	x.peers.Add(e)
}

func addr(s string) [16]byte { return netip.MustParseAddr(s).As16() }

func count(packets, bytes uint64) epoch.Count { return epoch.Count{Packets: packets, Bytes: bytes} }

// sketchOf has so many items.
func sketchOf(n uint64) *hll.Sketch {
	s := new(hll.Sketch)
	for i := range n {
		s.Insert(i<<50 + 1<<40)
	}
	return s
}

// pairsOf samples who talks to whom.
func pairsOf(flows []epoch.Flow) *pairs.Sample {
	s := pairs.NewSample(pairs.Seed{1, 2})
	for i := range flows {
		k := &flows[i].Key
		if hash, ok := s.Samples(siphash.Key{}.Sum(k.Source[:]), siphash.Key{}.Sum(k.Destination[:])); ok {
			s.Add(hash, k)
		}
	}
	return s
}

// testEpoch has something of everything, and conserves it.
func testEpoch(sequence int) *epoch.Epoch {
	end := start.Add(time.Duration(sequence) * time.Second)
	folded := count(4, 400)
	e := &epoch.Epoch{
		Host: "host-a", Sequence: uint64(sequence), Start: end.Add(-time.Second), End: end,
		Devices: []epoch.Device{
			{
				Name: "eth0", Direction: flow.Ingress, Total: count(120, 11500),
				Duplicate: count(2, 200), Remainder: count(3, 300),
				Others: []epoch.Reason{{Reason: "arp", Count: count(1, 42)}, {Reason: "malformed", Count: count(1, 58)}},
			},
			{Name: "eth0", Direction: flow.Egress},
		},
		Flows: []epoch.Flow{
			{Key: flow.Key{Source: addr("10.0.0.1"), Destination: addr("10.0.0.9"), SourcePort: 40000, DestinationPort: 443, Protocol: flow.ProtocolTCP}, Count: count(80, 8000), Doubtful: 25},
			{Key: flow.Key{Source: addr("2001:db8::1"), Destination: addr("2001:db8::9"), SourcePort: 128, Protocol: flow.ProtocolICMPv6}, Count: count(20, 2000)},
			{Key: flow.Key{Source: addr("10.0.0.1"), Destination: addr("10.0.0.8"), SourcePort: 5353, DestinationPort: 5353, Protocol: flow.ProtocolUDP}, Count: count(9, 500)},
		},
		Ladders: []epoch.Ladder{
			{Dimension: flow.Source, Entries: []epoch.Prefix{
				{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Count: count(3, 300)},
				{Prefix: netip.MustParsePrefix("2001:db8::/32"), Count: count(1, 100)},
			}},
			{Dimension: flow.Destination, Entries: []epoch.Prefix{{Prefix: netip.MustParsePrefix("10.0.0.9/32"), Count: folded}}},
		},
		Sketches: []epoch.Sketch{
			{Of: epoch.OfFlows, HLL: new(hll.Sketch)},
			{Of: epoch.OfSources, HLL: sketchOf(3)}, {Of: epoch.OfDestinations, HLL: sketchOf(3)},
		},
		Doubtful: count(2, 150),
		Hidden:   count(1, 90),
	}
	e.Pairs = pairsOf(e.Flows)
	return e
}

func TestCollector(t *testing.T) {
	x := newExporter(
		capture.Attachment{Device: "eth0", Direction: flow.Ingress, Hook: "tcx"},
		capture.Attachment{Device: "eth0", Direction: flow.Egress, Hook: "tcx"},
		capture.Attachment{Device: "eth0", Direction: flow.Egress, Hook: "tcx"}, // as after a rename
	)
	x.add(testEpoch(1))
	x.add(testEpoch(2))
	want, err := os.Open("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	// All but the histogram, in which the time of a scrape shows.
	if err := testutil.GatherAndCompare(x.registry, want, names(t, x.registry, "tma_capture_drain_duration_seconds")...); err != nil {
		t.Error(err)
	}
}

// names lists what a registry has, but for one.
func names(t *testing.T, registry *prometheus.Registry, but string) []string {
	t.Helper()
	var all []string
	for _, family := range gather(t, registry) {
		if family.GetName() != but {
			all = append(all, family.GetName())
		}
	}
	return all
}

func gather(t *testing.T, registry *prometheus.Registry) []*dto.MetricFamily {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func TestLint(t *testing.T) {
	x := newExporter(capture.Attachment{Device: "eth0", Hook: "tcx"})
	x.add(testEpoch(1))
	problems, err := testutil.GatherAndLint(x.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Both sides of the books are in one scrape, and equal, while epochs come in.
func TestScrapesAreConsistent(t *testing.T) {
	x := newExporter()
	const epochs = 300
	var group sync.WaitGroup
	group.Go(func() {
		for i := range epochs {
			x.add(testEpoch(i + 1))
		}
	})
	for range 100 {
		sum := map[string]float64{}
		for _, family := range gather(t, x.registry) {
			for _, m := range family.Metric {
				if !strings.Contains(m.String(), `value:"destination"`) { // the same bytes once more
					sum[family.GetName()] += m.GetCounter().GetValue()
				}
			}
		}
		total := sum["tma_capture_bytes_total"]
		accounted := sum["tma_capture_flow_bytes_total"] + sum["tma_capture_folded_bytes_total"] +
			sum["tma_capture_remainder_bytes_total"] + sum["tma_capture_other_bytes_total"] +
			sum["tma_capture_duplicate_bytes_total"]
		if total != accounted || sum["tma_capture_unaccounted_bytes_total"] != 0 {
			t.Fatalf("%.0f bytes seen, %.0f accounted for: %v", total, accounted, sum)
		}
	}
	group.Wait()
}

func TestUnaccountedShowsLossAndSurplus(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(e *epoch.Epoch)
	}{
		{"lost", func(e *epoch.Epoch) { e.Flows[0].Bytes -= 7 }},
		{"counted twice", func(e *epoch.Epoch) { e.Flows[0].Bytes += 7 }},
		{"in one dimension", func(e *epoch.Epoch) { e.Ladders[1].Entries[0].Bytes -= 7 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := newExporter()
			e := testEpoch(1)
			test.harm(e)
			x.add(e)
			want := "# HELP tma_capture_unaccounted_bytes_total Bytes, layer 2 header included, by which what was seen and what was counted differ; always 0.\n" +
				"# TYPE tma_capture_unaccounted_bytes_total counter\ntma_capture_unaccounted_bytes_total 7\n"
			if err := testutil.GatherAndCompare(x.registry, strings.NewReader(want), "tma_capture_unaccounted_bytes_total"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Series are bounded: devices that are gone leave in time, names that no label
// can hold don't break a scrape, and talkers are k and the others.
func TestSeriesAreBounded(t *testing.T) {
	x := newExporter()
	for i := range 700 {
		e := testEpoch(i + 1)
		e.Devices = append(e.Devices, epoch.Device{Name: fmt.Sprintf("veth\xff%d", i), Total: count(1, 1), Remainder: count(1, 1)})
		e.Flows[0].Source = netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).As16()
		x.add(e)
		if i%100 != 0 {
			continue
		}
		got := map[string]int{}
		for _, family := range gather(t, x.registry) {
			got[family.GetName()] = len(family.Metric)
		}
		if n := got["tma_capture_bytes_total"]; n > 2+301 {
			t.Errorf("%d series of devices; those of 5 minutes are allowed", n)
		}
		for _, name := range []string{"tma_flow_bytes_per_second", "tma_source_bytes_per_second", "tma_destination_bytes_per_second", "tma_service_bytes_per_second", "tma_source_distinct_destinations", "tma_destination_distinct_sources"} {
			if got[name] > 3 {
				t.Errorf("%d series of %s", got[name], name)
			}
		}
	}
}

func TestBeforeTheFirstEpoch(t *testing.T) {
	x := newExporter()
	if problems, err := testutil.GatherAndLint(x.registry); err != nil || len(problems) != 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestDrainHistogram(t *testing.T) {
	x := newExporter()
	x.add(testEpoch(1))
	for _, family := range gather(t, x.registry) {
		if family.GetName() != "tma_capture_drain_duration_seconds" {
			continue
		}
		h := family.Metric[0].GetHistogram()
		if h.GetSampleCount() != 1 || len(h.Bucket) == 0 || len(h.PositiveSpan) == 0 {
			t.Errorf("got %v, want one observation in classic and native buckets", h)
		}
		return
	}
	t.Error("no histogram")
}

// source is a capture whose numbers are all different.
type source struct{ stats []capture.ProgramStats }

func (source) Health() *capture.Health {
	return &capture.Health{
		End: time.Unix(100, 5e8), Lag: 2 * time.Millisecond, CacheEntries: 3, CacheRoom: 4, TableEntries: 5, TableRoom: 6,
		RingPeak: 7, RingRoom: 8, Evictions: 9, Folds: 10,
	}
}

func (s source) ProgramStats() []capture.ProgramStats { return s.stats }

func (source) Memory() []capture.MemoryUse {
	return []capture.MemoryUse{{Part: "cache", Bytes: 11}, {Part: "ring", Bytes: 12}}
}

func TestHealth(t *testing.T) {
	stats := []capture.ProgramStats{{Direction: flow.Egress, Runs: 17, Time: 1500 * time.Millisecond}}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector.NewHealth(collector.HealthConfig{
		Source: source{stats}, Kept: func() (int, int) { return 13, 14 }, CaptureMemory: 15, EpochsMemory: 16, Start: start,
	}))
	got := map[string]float64{}
	for _, family := range gather(t, registry) {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, pair := range m.Label {
				name += "/" + pair.GetValue()
			}
			got[strings.TrimPrefix(name, "tma_")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"capture_last_epoch_timestamp_seconds": 100.5, "capture_epoch_lag_seconds": 0.002,
		"capture_cache_entries": 3, "capture_cache_entries_limit": 4,
		"capture_flow_table_entries": 5, "capture_flow_table_entries_limit": 6,
		"capture_ring_peak_bytes": 7, "capture_ring_limit_bytes": 8,
		"capture_cache_evictions_total": 9, "capture_folds_total": 10,
		"capture_memory_bytes/cache": 11, "capture_memory_bytes/ring": 12, "capture_memory_limit_bytes": 15,
		"epochs_kept": 13, "epochs_kept_bytes": 14, "epochs_limit_bytes": 16,
		"capture_program_runs_total/egress": 17, "capture_program_seconds_total/egress": 1.5,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
