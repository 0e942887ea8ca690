package store

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// benchmarkWindow is a minute of as many flows as a second keeps by default.
func benchmarkWindow(b *testing.B) *Window {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	s, clock := newTestStore(nil)
	zipf := rand.NewZipf(r, 1.1, 8, 1<<20)
	for second := range 60 {
		e := &epoch.Epoch{Sequence: uint64(second + 1), Start: t0.Add(time.Duration(second) * time.Second), End: t0.Add(time.Duration(second)*time.Second + 500*time.Millisecond)}
		for range DefaultConfiguration().MaxFlows {
			source, destination := uint32(zipf.Uint64())*2654435761, uint32(zipf.Uint64())*2246822519
			k := key("10.0.0.1", "192.0.2.1", 443)
			k.Source = netip.AddrFrom4([4]byte{byte(source >> 24), byte(source >> 16), byte(source >> 8), byte(source)}).As16()
			k.Destination = netip.AddrFrom4([4]byte{byte(destination >> 24), byte(destination >> 16), byte(destination >> 8), byte(destination)}).As16()
			k.Protocol = []uint8{flow.ProtocolTCP, flow.ProtocolUDP}[r.IntN(2)]
			e.Flows = append(e.Flows, epoch.Flow{Key: k, Count: epoch.Count{Packets: 1, Bytes: uint64(60 + r.IntN(1400))}})
		}
		clock.at(float64(second) + 0.6)
		if err := s.Append("a", e); err != nil {
			b.Fatal(err)
		}
	}
	clock.at(80)
	return s.Last(2 * time.Minute)
}

func BenchmarkWindow(b *testing.B) {
	w := benchmarkWindow(b)
	tcp := uint8(flow.ProtocolTCP)
	source := Ends{Prefix: netip.MustParsePrefix("64.0.0.0/2")}
	for name, answer := range map[string]func(){
		"tree":               func() { w.Tree(flow.Source) },
		"tree of a protocol": func() { w.Filter(Filter{Protocol: &tcp}).Tree(flow.Source) },
		"tree of a source":   func() { w.Filter(Filter{Source: source}).Tree(flow.Source) },
		"top flows":          func() { w.TopFlows(20) },
		"pairs":              func() { w.HeavyPairs(0.01) },
		"series": func() {
			var prefixes []hhh.Prefix
			for _, h := range w.Tree(flow.Source).Heavy(0.01) {
				prefixes = append(prefixes, h.Prefix)
			}
			w.Series(flow.Source, prefixes, time.Second)
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				answer()
			}
			b.ReportMetric(float64(len(w.contents)), "buckets")
		})
	}
}
