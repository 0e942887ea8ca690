package collector

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/yamlconf"
)

// fullStore has so many seconds of 20 exporters with 1,000 flows each, twice a second:
// more than a bucket keeps.
func fullStore(b testing.TB, seconds int) (s *store.Store, clock func() time.Time) {
	now := time.Unix(1_700_000_000, 0)
	clock = func() time.Time { return now }
	s = store.New(store.DefaultConfiguration(), clock)
	var list []networks.Network
	for i := range 64 {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16)
		list = append(list, networks.Network{Prefix: yamlconf.Prefix{Prefix: prefix}, Name: networks.Name(fmt.Sprint("n-", i))})
	}
	s.SetNetworks(networks.NewTable(list))
	r := rand.New(rand.NewPCG(1, 1))
	sketch := new(hll.Sketch)
	for range 100_000 {
		sketch.Insert(r.Uint64())
	}
	for half := range 2 * seconds {
		now = now.Add(500 * time.Millisecond)
		for x := range 20 {
			name := string(rune('a' + x))
			s.SetUp(name, true)
			if err := s.Append(name, fullEpoch(r, name, uint64(half+1), now, sketch)); err != nil {
				b.Fatal(err)
			}
		}
	}
	return s, clock
}

func fullEpoch(r *rand.Rand, host string, sequence uint64, end time.Time, sketch *hll.Sketch) *epoch.Epoch {
	e := &epoch.Epoch{Host: host, Sequence: sequence, Start: end.Add(-500 * time.Millisecond), End: end}
	for range 1000 {
		e.Flows = append(e.Flows, epoch.Flow{Key: randomKey(r), Count: epoch.Count{Packets: 1, Bytes: 1 + r.Uint64N(1<<r.IntN(20))}})
	}
	for _, of := range []string{epoch.OfFlows, epoch.OfSources, epoch.OfDestinations, epoch.OfDestinationPorts} {
		e.Sketches = append(e.Sketches, epoch.Sketch{Of: of, HLL: sketch})
	}
	return e
}

func randomKey(r *rand.Rand) (k flow.Key) {
	for _, a := range []*[16]byte{&k.Source, &k.Destination} {
		a[10], a[11] = 0xff, 0xff
		binary.BigEndian.PutUint32(a[12:], 10<<24|r.Uint32N(1<<22))
	}
	k.SourcePort = uint16(r.Uint32())
	return k
}

// BenchmarkFleet is what the metrics of a store cost in which each second has more than
// a bucket keeps: to compute, when epochs have just come in, and to scrape.
func BenchmarkFleet(b *testing.B) {
	s, clock := fullStore(b, 90)
	c := New(Configuration{Phi: 0.01, HHHWindow: 10 * time.Second, CardinalityWindows: []time.Duration{10 * time.Second, time.Minute}},
		s, func() []scrape.Status { return nil }, clock)
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	b.Run("compute", func(b *testing.B) {
		r := rand.New(rand.NewPCG(2, 2))
		for sequence := uint64(1); b.Loop(); sequence++ {
			e := fullEpoch(r, "a", 180+sequence, clock(), new(hll.Sketch))
			if err := s.Append("a", e); err != nil { // so that its second is resolved anew
				b.Fatal(err)
			}
			c.computeFleet()
		}
	})
	b.Run("scrape", func(b *testing.B) {
		for b.Loop() {
			if _, err := registry.Gather(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
