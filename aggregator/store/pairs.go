package store

import (
	"cmp"
	"slices"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// maxPairs bounds the memory and time of one search for heavy pairs. Smaller ones
// beyond it are treated as if they had been folded.
const maxPairs = 1 << 16

// HeavyPairs returns the hierarchical heavy hitters of source and destination
// together, for a share phi of what is counted.
func (w *Window) HeavyPairs(phi float64) []hhh.HeavyPair {
	traffic := hhh.PairTraffic{Masses: w.pairMasses(), Unknown: w.unknown()}
	traffic.Sources, traffic.Destinations = w.withoutPair(flow.Source), w.withoutPair(flow.Destination)
	if len(traffic.Masses) > maxPairs {
		for _, m := range traffic.Masses[maxPairs:] {
			traffic.Sources = append(traffic.Sources, hhh.Mass{Prefix: hhh.AddrPrefix(m.Source), Count: m.Count})
			traffic.Destinations = append(traffic.Destinations, hhh.Mass{Prefix: hhh.AddrPrefix(m.Destination), Count: m.Count})
		}
		traffic.Masses = traffic.Masses[:maxPairs]
	}
	found := traffic.Heavy(w.levels, phi)
	for i := range found {
		found[i].Lower -= min(found[i].Lower, w.doubtful)
	}
	return found
}

// pairMasses are the window's flows by their addresses, the greatest first.
func (w *Window) pairMasses() []hhh.PairMass {
	type pair struct{ source, destination [16]byte }
	sums := make(map[pair]epoch.Count)
	for f := range w.flows() {
		sum := sums[pair{f.Source, f.Destination}]
		sum.Add(f.Count)
		sums[pair{f.Source, f.Destination}] = sum
	}
	masses := make([]hhh.PairMass, 0, len(sums))
	for p, count := range sums {
		masses = append(masses, hhh.PairMass{Source: p.source, Destination: p.destination, Count: count})
	}
	slices.SortFunc(masses, func(a, b hhh.PairMass) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), slices.Compare(a.Source[:], b.Source[:]), slices.Compare(a.Destination[:], b.Destination[:]))
	})
	return masses
}

// withoutPair returns the masses of one dimension that have no flow any more.
func (w *Window) withoutPair(d flow.Dimension) []hhh.Mass {
	if w.selection != nil {
		return []hhh.Mass{{Count: w.folded}}
	}
	var masses []hhh.Mass
	for _, c := range w.contents {
		masses = c.packed.masses[d].AppendTo(masses)
	}
	masses = hhh.Combine(masses)
	r := newRemoval(masses)
	for f := range w.flows() {
		r.remove(f.prefix(d), f.Count)
	}
	return slices.DeleteFunc(masses, func(m hhh.Mass) bool { return m.Count == epoch.Count{} })
}

// removal takes flows out of the masses that hold them. A flow is at its address or,
// if that was folded, somewhere above it, which isn't known: it is taken from the
// longest prefixes that have as much. If that is too long a one, then the bytes that
// stay are further up than they were, and may belong to no less than before.
type removal struct {
	masses []hhh.Mass
	at     map[hhh.Prefix]int
}

func newRemoval(masses []hhh.Mass) *removal {
	r := &removal{masses: masses, at: make(map[hhh.Prefix]int, len(masses))}
	for i := range masses {
		r.at[masses[i].Prefix] = i
	}
	return r
}

func (r *removal) remove(p hhh.Prefix, c epoch.Count) {
	for length := p.Length(); length >= 0 && c != (epoch.Count{}); length-- {
		r.take(p.Truncate(length), &c)
	}
	r.take(hhh.Prefix{}, &c)
}

func (r *removal) take(p hhh.Prefix, c *epoch.Count) {
	if i, ok := r.at[p]; ok {
		taken := least(r.masses[i].Count, *c)
		r.masses[i].Sub(taken)
		c.Sub(taken)
	}
}
