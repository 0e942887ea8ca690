package store

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// storm is a fleet in which every packet's flow is new.
type storm struct {
	random    *rand.Rand
	hosts     []*host
	sequence  uint64
	flows     []epoch.Flow
	sketches  []epoch.Sketch
	delivered uint64
}

func newStorm(seed uint64, hosts, flows int) *storm {
	s := &storm{random: rand.New(rand.NewPCG(seed, 1)), flows: make([]epoch.Flow, flows)}
	for i := range hosts {
		s.hosts = append(s.hosts, newHost(string(rune('a'+i)), "10.0.0."+string(rune('1'+i))+"/32"))
	}
	for _, of := range []string{epoch.OfFlows, epoch.OfSources, epoch.OfDestinations, epoch.OfDestinationPorts} {
		s.sketches = append(s.sketches, epoch.Sketch{Of: of, HLL: &hll.Sketch{}})
	}
	return s
}

// second has each host send an epoch of a whole second.
func (s *storm) second(t testing.TB, to *Store, c *clock) {
	s.sequence++
	for _, h := range s.hosts {
		e := &epoch.Epoch{
			Sequence: s.sequence, Start: c.now.Add(-time.Second), End: c.now,
			LocalNetworks: h.networks, Flows: s.flows, Sketches: s.sketches,
		}
		for i := range e.Flows {
			s.flow(&e.Flows[i], h)
		}
		if err := to.Append(h.name, e); err != nil {
			t.Fatal(err)
		}
	}
}

// flow makes up a flow from one of the host's networks, or to it, as heavy as flows
// are: a few have most of the bytes.
func (s *storm) flow(f *epoch.Flow, h *host) {
	local, remote := h.networks[0].Addr().As16(), [16]byte{10: 0xff, 11: 0xff}
	for i := 12; i < 16; i++ {
		remote[i] = byte(s.random.Uint32())
	}
	f.Source, f.Destination = local, remote
	if s.random.IntN(2) == 0 {
		f.Source, f.Destination = remote, local
	}
	f.SourcePort, f.DestinationPort, f.Protocol = uint16(s.random.Uint32()), 443, flow.ProtocolTCP
	f.Packets = 1 + uint64(1/(s.random.Float64()+1e-6))
	f.Bytes = f.Packets * 700
	s.delivered += f.Bytes
	for i := range s.sketches {
		s.sketches[i].HLL.Insert(s.random.Uint64())
	}
}

// hour fills a store to its bounds over its retention and beyond.
func (s *storm) hour(t testing.TB, to *Store, c *clock) {
	for _, h := range s.hosts {
		to.SetUp(h.name, true)
	}
	for second := range int(to.configuration.Retention/time.Second) + 2*coarse {
		c.at(float64(second + 1))
		s.second(t, to, c)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// packedBytes is what all contents take.
func packedBytes(s *Store) (n int64) {
	seen := make(map[*content]bool)
	for _, buckets := range append([][]*bucket{s.buckets}, s.spans[:]...) {
		for _, b := range buckets {
			if b.content != nil && !seen[b.content] {
				seen[b.content] = true
				n += int64(b.content.packed.size())
			}
		}
	}
	return n
}

// After an hour in which every second had more than it may keep, the store is
// within its memory, and still has every byte.
func TestMemoryOfAnHour(t *testing.T) {
	const memory = 64 << 20
	storm := newStorm(1, 2, 1000)
	before := heap()
	s, clock := newTestStore(func(c *Configuration) { c.Memory, c.MaxTransitFlows = memory, 64 })
	storm.hour(t, s, clock)
	used, lists := heap()-before, packedBytes(s)
	t.Logf("%.1f MiB of heap, %.1f MiB of contents, %d waiting, %d buckets, spans %d %d %d", float64(used)/(1<<20),
		float64(lists)/(1<<20), s.waiting, len(s.buckets), len(s.spans[0]), len(s.spans[1]), len(s.spans[2]))
	if lists > memory*3/4 || lists < memory/4 || int64(s.waiting) > memory/4 {
		t.Errorf("contents take %d bytes and open epochs %d of %d", lists, s.waiting, int64(memory))
	}
	if used > memory+memory/4 {
		t.Errorf("%d bytes of heap, %d are allowed", used, int64(memory))
	}
	if got := s.Totals().Counted.Bytes; got != storm.delivered {
		t.Errorf("%d bytes were counted of %d", got, storm.delivered)
	}
	runtime.KeepAlive(s)
}

// BenchmarkTreeOfAnHour is the tree of the last hour of a store whose every second
// is at its bounds, from nothing, at different phases of the ten minutes.
func BenchmarkTreeOfAnHour(b *testing.B) {
	storm := newStorm(1, 2, 5000)
	before := heap()
	s, clock := newTestStore(nil)
	storm.hour(b, s, clock)
	b.Logf("%.0f MiB of heap, %.0f MiB of contents", float64(heap()-before)/(1<<20), float64(packedBytes(s))/(1<<20))
	var took []time.Duration
	for b.Loop() {
		for range 40 {
			for range 15 {
				clock.now = clock.now.Add(time.Second)
				storm.second(b, s, clock)
			}
			began := time.Now()
			tree := s.Last(time.Hour).Tree(flow.Destination)
			view := tree.View(0.001)
			took = append(took, time.Since(began))
			if tree.Total().Bytes == 0 || len(view.Children) == 0 {
				b.Fatal("the tree is empty")
			}
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
}
