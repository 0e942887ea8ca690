package collector_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/exporter/capture"
	"github.com/traffic-monitor-agent/tma/exporter/collector"
	"github.com/traffic-monitor-agent/tma/exporter/window"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

const (
	topK        = 20
	topWindow   = 15 * time.Second
	epochLength = 500 * time.Millisecond
)

// topMetrics are those whose series the traffic chooses.
var topMetrics = []string{
	"tma_flow_bytes_per_second", "tma_flow_packets_per_second", "tma_source_bytes_per_second",
	"tma_destination_bytes_per_second", "tma_service_bytes_per_second",
}

// chain is everything between the records of the kernel and a scrape. It knows what
// was sent in the window.
type chain struct {
	t        *testing.T
	ledger   *fold.Ledger
	history  *window.History
	topk     *window.TopK
	peers    *window.Peers
	registry *prometheus.Registry
	table    *networks.Table // of names; nil for addresses
	sequence uint64
	records  []fold.Record   // of the epoch
	epochs   [][]fold.Record // of the window
	totals   []epoch.Count   // likewise
	truth    map[series]uint64
}

// series is one of a metric.
type series struct{ metric, labels string }

func newChain(t *testing.T, table *networks.Table) *chain {
	c := &chain{
		t:        t,
		ledger:   fold.NewLedger(fold.LedgerConfig{Entries: 4096, LadderEntries: 256, SketchWidth: 1024, Points: 4}),
		history:  window.NewHistory(window.HistoryConfig{Flows: 1000, Retention: time.Second, MaxBytes: 1 << 20}),
		topk:     window.NewTopK(topK, topWindow),
		peers:    window.NewPeers(topK),
		registry: prometheus.NewRegistry(),
		table:    table,
		truth:    map[series]uint64{},
	}
	t.Cleanup(c.ledger.Free)
	c.topk.Name(table)
	c.registry.MustRegister(collector.New(collector.Config{
		Attachments: func() []capture.Attachment { return nil },
		Top:         c.topk.Top,
		Cardinality: func() []window.Estimate { return nil },
		Entropy:     func([]window.Estimate) []window.EntropyRatio { return nil },
		Peers:       c.peers.Top,
		Names:       func() *networks.Table { return table },
		Start:       start,
	}))
	return c
}

// send counts packets of a flow in the epoch.
func (c *chain) send(key flow.Key, packets, bytes uint64) {
	r := fold.Record{Key: key, Point: 2, Count: epoch.Count{Packets: packets, Bytes: bytes}}
	var canonical [flow.KeyLen]byte
	key.Canonical(&canonical)
	for _, b := range canonical {
		r.Hash = (r.Hash ^ uint64(b)) * 0x100000001b3 // FNV-1a
	}
	r.Hash *= 0x9e3779b97f4a7c15
	r.Hash ^= r.Hash >> 32
	c.records = append(c.records, r)
}

// end ends the epoch. A part of the traffic is not IP, was too much for the ring
// buffer, or was seen twice.
func (c *chain) end() {
	others, remainder, duplicate := count(3, 180), count(5, 4000), count(9, 9000)
	total := count(8, 4180)
	for i := range c.records {
		total.Add(c.records[i].Count)
		c.book(&c.records[i], 1)
	}
	c.ledger.AddBatch(make([]fold.Half, len(c.records)), c.records)
	books := c.ledger.Close(0)
	seen := total
	seen.Add(duplicate)
	c.sequence++
	begin := start.Add(time.Duration(c.sequence) * epochLength)
	e := &epoch.Epoch{
		Host: "test", Sequence: c.sequence, Start: begin, End: begin.Add(epochLength),
		Devices: []epoch.Device{{
			Name: "eth0", Total: seen, Duplicate: duplicate, Remainder: remainder,
			Others: []epoch.Reason{{Reason: "arp", Count: others}},
		}},
		Flows: books.Flows, Ladders: books.Ladders, Sketches: books.Sketches, Pairs: books.Pairs,
	}
	if left := e.Unaccounted(flow.Source); left != (epoch.Count{}) {
		c.t.Fatalf("epoch %d: %v unaccounted for", c.sequence, left)
	}
	if _, err := c.history.Encode(e); err != nil {
		c.t.Fatal(err)
	}
	c.topk.Add(e, c.history.Trimmed())
	c.peers.Add(e)
	c.ledger.Reset(0)
	c.slide(total)
}

// slide moves the window of what is known on by an epoch.
func (c *chain) slide(total epoch.Count) {
	c.epochs, c.totals, c.records = append(c.epochs, c.records), append(c.totals, total), nil
	if len(c.epochs) <= int(topWindow/epochLength) {
		return
	}
	for i := range c.epochs[0] {
		c.book(&c.epochs[0][i], -1)
	}
	c.epochs, c.totals = c.epochs[1:], c.totals[1:]
}

// book adds a record to the truth, or takes it away.
func (c *chain) book(r *fold.Record, sign int64) {
	source, destination, protocol := r.SourceAddr(), r.DestinationAddr(), flow.ProtocolName(r.Protocol)
	service := flow.ServiceOf(&r.Key)
	labels := [4]string{
		fmt.Sprintf("%s %s %d %d %s", source, destination, r.SourcePort, r.DestinationPort, protocol),
		source.String(), destination.String(),
		fmt.Sprintf("%s %d %s", protocol, service.Port, service.Name()),
	}
	if c.table != nil {
		from, to, port := c.table.Name(c.table.Lookup(source)), c.table.Name(c.table.Lookup(destination)), ""
		if service = service.Named(); service.Port != 0 {
			port = strconv.Itoa(int(service.Port))
		}
		labels = [4]string{from + " " + to + "   ", from, to, protocol + " " + port + " " + service.Name()}
	}
	for i, metric := range []string{topMetrics[0], topMetrics[2], topMetrics[3], topMetrics[4]} {
		s := series{metric, labels[i]}
		if c.truth[s] += uint64(sign) * r.Bytes; c.truth[s] == 0 {
			delete(c.truth, s)
		}
	}
}

// labelOrder is that of the labels in chain.book.
var labelOrder = []string{"source", "destination", "source_port", "destination_port", "protocol", "port", "service"}

func labelsOf(m *dto.Metric) string {
	values := map[string]string{}
	for _, l := range m.Label {
		values[l.GetName()] = l.GetValue()
	}
	var texts []string
	for _, name := range labelOrder {
		if value, ok := values[name]; ok {
			texts = append(texts, value)
		}
	}
	return strings.Join(texts, " ")
}

// scrape asks as Prometheus does.
func (c *chain) scrape() map[string]*dto.MetricFamily {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(c.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return families
}

// check scrapes, and holds what it gets to what was sent. It returns the series.
func (c *chain) check() map[series]bool {
	families, all := c.scrape(), map[series]bool{}
	var total epoch.Count
	for _, n := range c.totals {
		total.Add(n)
	}
	seconds := (time.Duration(len(c.totals)) * epochLength).Seconds()
	missed := map[string]float64{} // by metric
	for _, m := range families["tma_topk_error_bytes_per_second"].Metric {
		missed["tma_"+strings.TrimSuffix(labelValue(m, "of"), "s")+"_bytes_per_second"] = m.Gauge.GetValue()
	}
	for _, metric := range []string{"tma_source_distinct_destinations", "tma_destination_distinct_sources"} {
		if n := len(families[metric].GetMetric()); n > topK {
			c.t.Fatalf("epoch %d: %d series of %s, allowed %d", c.sequence, n, metric, topK)
		}
	}
	for _, metric := range topMetrics {
		want, sum := float64(total.Bytes)/seconds, 0.0
		if strings.Contains(metric, "packets") {
			want = float64(total.Packets) / seconds
		}
		if n := len(families[metric].Metric); n < 2 || n > topK+1 {
			c.t.Fatalf("epoch %d: %d series of %s, allowed %d", c.sequence, n, metric, topK+1)
		}
		for _, m := range families[metric].Metric {
			s, rate := series{metric, labelsOf(m)}, m.Gauge.GetValue()
			all[s] = true
			sum += rate
			if strings.Contains(s.labels, "other") || strings.Contains(metric, "packets") {
				continue
			}
			truth := float64(c.truth[s]) / seconds
			if rate > truth*(1+1e-9) || truth > (rate+missed[metric])*(1+1e-9) {
				c.t.Errorf("epoch %d: %s of %q is %.0f, sent were %.0f, missed at most %.0f", c.sequence, metric, s.labels, rate, truth, missed[metric])
			}
		}
		if math.Abs(sum-want) > 1e-9*want {
			c.t.Errorf("epoch %d: the sum of %s is %.3f, the total %.3f", c.sequence, metric, sum, want)
		}
	}
	return all
}

func labelValue(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func key(source, destination netip.Addr, sourcePort, destinationPort uint16, protocol uint8) flow.Key {
	return flow.Key{Source: source.As16(), Destination: destination.As16(), SourcePort: sourcePort, DestinationPort: destinationPort, Protocol: protocol}
}

func ipv4(network byte, number uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{network, byte(number >> 16), byte(number >> 8), byte(number)})
}

// spoofed is an address with a number in it.
func spoofed(random *rand.Rand, n uint32) netip.Addr {
	if n%2 == 0 {
		return ipv4(byte(1+random.IntN(200)), n)
	}
	return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(random.Uint32()), 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)})
}

// hostile sends flows of which no two are alike: a flood from spoofed sources, a scan,
// or small talk of everybody with everybody.
func (c *chain) hostile(random *rand.Rand, first uint32, flows int) {
	victim, scanner := ipv4(10, 9<<16|9), ipv4(203, 7)
	for n := first; n < first+uint32(flows); n++ {
		port := uint16(1024 + n%60000)
		switch c.sequence / 30 % 3 {
		case 0:
			c.send(key(spoofed(random, n), victim, port, 80, flow.ProtocolTCP), 1, 60)
		case 1:
			c.send(key(scanner, ipv4(10, n), 55555, uint16(n), flow.ProtocolTCP), 1, 60)
		default:
			c.send(key(ipv4(172, n), ipv4(100, random.Uint32()), port, uint16(random.Uint32()), flow.ProtocolUDP), 1+uint64(n%3), 100+uint64(n%7919))
		}
	}
}

// A million distinct flows never make more than k+1 series of a metric, the sums are
// the totals, and every rate is right up to the error that is stated.
func TestSeriesOfAMillionFlows(t *testing.T) {
	const epochs, flows, talkers = 125, 8000, 40
	for name, table := range map[string]*networks.Table{
		"addresses": nil,
		"networks":  newTable(t, "10.0.0.0/8=corp", "10.9.0.0/16=servers", "172.16.0.0/12=lab", "2001:db8::/32=lab6"),
	} {
		t.Run(name, func(t *testing.T) {
			c, random, ever := newChain(t, table), rand.New(rand.NewPCG(1, 2)), map[series]bool{}
			for i := range uint32(epochs) {
				c.hostile(random, i*flows, flows)
				for n := range uint32(talkers) { // what is worth a series
					c.send(key(ipv4(11, n), ipv4(10, 1000+n%7), uint16(40000+n), 443, flow.ProtocolTCP), 10, 400_000/uint64(n+1))
				}
				c.end()
				for s := range c.check() {
					ever[s] = true
				}
			}
			t.Logf("%d series in all, of %d distinct flows, in %d metrics and at %d scrapes", len(ever), epochs*flows+talkers, len(topMetrics), epochs)
			residencies := float64(epochs) * epochLength.Seconds() / (20 * topWindow.Seconds())
			if bound := float64(len(topMetrics)) * (topK*(2+residencies) + 1); float64(len(ever)) > bound {
				t.Errorf("allowed are %.0f series", bound)
			}
		})
	}
}

func newTable(t *testing.T, texts ...string) *networks.Table {
	t.Helper()
	all := make([]networks.Network, len(texts))
	for i, text := range texts {
		if err := all[i].Set(text); err != nil {
			t.Fatal(err)
		}
	}
	return networks.NewTable(all)
}

// Under steady traffic the series change by less than 1 % from one scrape to the next:
// Zipf, packets in bursts, and a dozen flows of the same size where the top ends.
func TestSeriesDoNotChurn(t *testing.T) {
	const scrape, settling, epochs = int(15 * time.Second / epochLength), 240, 1800
	c, random := newChain(t, nil), rand.New(rand.NewPCG(3, 4))
	var before map[series]bool
	shown, changed := 0, 0
	for i := range epochs {
		c.steady(random)
		c.end()
		if (i+1)%scrape != 0 {
			continue
		}
		now := c.check()
		if i > settling {
			shown += len(now)
			for s := range now {
				if !before[s] {
					changed++
				}
			}
		}
		before = now
	}
	share := float64(changed) / float64(shown)
	t.Logf("%.2f %% of %d series changed from one scrape to the next", 100*share, shown)
	if !(share < 0.01) {
		t.Error("want less than 1 %")
	}
}

// steady sends an epoch of flows whose bursts are independent of each other.
func (c *chain) steady(random *rand.Rand) {
	const burst = 4
	for n := range uint32(400) {
		rate := 2000 / float64(n+1)
		if n > 14 && n < 27 {
			rate = 100
		}
		expected := rate * epochLength.Seconds() / burst
		bursts := math.Round(expected + math.Sqrt(expected)*random.NormFloat64())
		if bursts > 0 {
			packets := burst * uint64(bursts)
			c.send(key(ipv4(10, n), ipv4(10, 1000+n), uint16(2000+n), uint16(30000+n), flow.ProtocolTCP), packets, packets*(600+uint64(n%2)*300))
		}
	}
}
