package hhh

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// pairOracle is the definition in two dimensions, slow and obvious: every pair of
// ancestors of every mass, from the longest to the shortest.
type pairOracle struct {
	levels Levels
	masses []PairMass
	left   epoch.Count // what counts under the root alone
}

// ancestors returns an address's prefixes as text, the root first, by level.
func (o *pairOracle) ancestors(address [16]byte) []string {
	addr := netip.AddrFrom16(address).Unmap()
	one := oracle{levels: o.levels}
	return one.ancestors(netip.PrefixFrom(addr, addr.BitLen()))
}

func (o *pairOracle) heavy(phi float64) map[string]HeavyPair {
	type level struct{ source, destination int }
	total := o.left
	byLevel := map[level]map[string][]int{} // masses below each pair
	deepest := 0
	for i, m := range o.masses {
		total.Add(m.Count)
		sources, destinations := o.ancestors(m.Source), o.ancestors(m.Destination)
		for s, source := range sources {
			for d, destination := range destinations {
				if (s == 0) != (d == 0) {
					continue // the root is of no family: it pairs with itself
				}
				at := level{s, d}
				if byLevel[at] == nil {
					byLevel[at] = map[string][]int{}
				}
				text := source + " " + destination
				byLevel[at][text] = append(byLevel[at][text], i)
				deepest = max(deepest, s+d)
			}
		}
	}
	if byLevel[level{}] == nil {
		byLevel[level{}] = map[string][]int{"all all": nil}
	}
	found, levels := map[string]HeavyPair{}, map[string]level{}
	for depth := deepest; depth >= 0; depth-- {
		for at, pairs := range byLevel {
			if at.source+at.destination != depth {
				continue
			}
			for text, below := range pairs {
				var sum epoch.Count
				var conditioned uint64
				if depth == 0 {
					sum, conditioned = o.left, o.left.Bytes
				}
				for _, i := range below {
					sum.Add(o.masses[i].Count)
					covered := false
					for heavy, l := range levels {
						finer := l.source >= at.source && l.destination >= at.destination && heavy != text
						covered = covered || finer && slices.Contains(byLevel[l][heavy], i)
					}
					if !covered {
						conditioned += o.masses[i].Bytes
					}
				}
				if conditioned > 0 && atLeast(conditioned, phi, total.Bytes) {
					found[text] = HeavyPair{Count: sum, Conditioned: conditioned}
				}
			}
		}
		// Pairs of one depth aren't below each other, so they don't cover each other.
		for at, pairs := range byLevel {
			for text := range pairs {
				if _, heavy := found[text]; heavy && at.source+at.destination == depth {
					levels[text] = at
				}
			}
		}
	}
	return found
}

func randomPairs(r *rand.Rand, n int) []PairMass {
	masses := make([]PairMass, n)
	for i := range masses {
		m := &masses[i]
		if r.IntN(3) == 0 {
			m.Source[0], m.Destination[0] = 0x20, 0x20
			m.Source[15], m.Destination[7] = byte(r.IntN(4)), byte(r.IntN(4))
		} else {
			m.Source = netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(3)), byte(r.IntN(5))}).As16()
			m.Destination = netip.AddrFrom4([4]byte{byte(r.IntN(3)), 0, byte(r.IntN(2)), byte(r.IntN(9))}).As16()
		}
		m.Count = epoch.Count{Packets: 1, Bytes: r.Uint64N(1 << r.IntN(12))}
	}
	return masses
}

func TestHeavyPairsAreTheOracles(t *testing.T) {
	for i := range 60 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 9))
			levels := []Levels{DefaultLevels(), Steps(16, 32), Steps(4, 64)}[i%3]
			traffic := PairTraffic{Masses: randomPairs(r, r.IntN(80)), Unknown: uint64(r.IntN(2) * 77)}
			if i%2 == 1 {
				traffic.Sources = []Mass{{FromNetip(netip.MustParsePrefix("10.0.0.0/16")), epoch.Count{Packets: 3, Bytes: 900}}}
				traffic.Destinations = []Mass{{FromNetip(netip.MustParsePrefix("2.0.0.8/32")), epoch.Count{Packets: 3, Bytes: 900}}}
			}
			o := pairOracle{levels: levels, masses: traffic.Masses}
			for _, m := range traffic.Sources {
				o.left.Add(m.Count)
			}
			for _, phi := range []float64{0.001, 0.01, 0.05, 0.2, 1} {
				want := o.heavy(phi)
				got := traffic.Heavy(levels, phi)
				for _, h := range got {
					w, ok := want[h.Source.String()+" "+h.Destination.String()]
					if !ok || h.Count != w.Count || h.Conditioned != w.Conditioned {
						t.Errorf("phi %v: got %v, want %v (%t)", phi, h, w, ok)
					}
				}
				if len(got) != len(want) {
					t.Errorf("phi %v: got %d, want %d", phi, len(got), len(want))
				}
				if !slices.IsSortedFunc(got, func(a, b HeavyPair) int { return int(int64(b.Bytes) - int64(a.Bytes)) }) {
					t.Errorf("phi %v: not by bytes", phi)
				}
			}
		})
	}
}

// Whatever was folded, and however far, the truth of every heavy pair is in its
// interval.
func TestHeavyPairsIntervals(t *testing.T) {
	for i := range 40 {
		r := rand.New(rand.NewPCG(uint64(i), 10))
		all := randomPairs(r, 200)
		var traffic PairTraffic
		for _, m := range all {
			switch r.IntN(4) {
			case 0:
				traffic.Sources = append(traffic.Sources, Mass{randomlyFolded(r, m.Source), m.Count})
				traffic.Destinations = append(traffic.Destinations, Mass{randomlyFolded(r, m.Destination), m.Count})
			case 1:
				traffic.Unknown += m.Bytes
			default:
				traffic.Masses = append(traffic.Masses, m)
			}
		}
		for _, h := range traffic.Heavy(DefaultLevels(), 0.01) {
			var truth uint64
			for _, m := range all {
				if h.Source.Contains(AddrPrefix(m.Source)) && h.Destination.Contains(AddrPrefix(m.Destination)) {
					truth += m.Bytes
				}
			}
			if truth < h.Lower || truth > h.Upper {
				t.Errorf("%v -> %v has %d, not in [%d, %d]", h.Source, h.Destination, truth, h.Lower, h.Upper)
			}
		}
	}
}

// randomlyFolded is a step of the ladder above an address, or the root.
func randomlyFolded(r *rand.Rand, address [16]byte) Prefix {
	p := AddrPrefix(address)
	for range r.IntN(5) {
		p = p.foldStep()
	}
	if r.IntN(10) == 0 {
		return Prefix{}
	}
	return p
}

func BenchmarkHeavyPairs(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.1, 1, 1<<16)
	traffic := PairTraffic{Masses: make([]PairMass, 100_000)}
	for i := range traffic.Masses {
		s, d := uint32(zipf.Uint64())*2654435761, uint32(zipf.Uint64())*2246822519
		traffic.Masses[i] = PairMass{
			Source:      netip.AddrFrom4([4]byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}).As16(),
			Destination: netip.AddrFrom4([4]byte{byte(d >> 24), byte(d >> 16), byte(d >> 8), byte(d)}).As16(),
			Count:       epoch.Count{Packets: 1, Bytes: 40 + r.Uint64N(1460)},
		}
	}
	for b.Loop() {
		if len(traffic.Heavy(DefaultLevels(), 0.01)) == 0 {
			b.Fatal("nothing is heavy")
		}
	}
}
