package hhh

import (
	"cmp"
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Pair is a source prefix and a destination prefix of the same family, or twice the
// root.
type Pair struct{ Source, Destination Prefix }

// PairMass is traffic from one address to another.
type PairMass struct {
	Source, Destination [16]byte // IPv4 as IPv4-mapped IPv6
	epoch.Count
}

// HeavyPair is a hierarchical heavy hitter in two dimensions.
type HeavyPair struct {
	Pair
	epoch.Count         // at and below the pair
	Conditioned  uint64 // bytes, less those below heavy pairs that are below this one
	Lower, Upper uint64 // bytes; the truth is between them
}

// PairTraffic is what a window holds of traffic by pairs.
type PairTraffic struct {
	Masses []PairMass
	// What gave up its flow is known by source and by destination, but not by both:
	// the same bytes are in either list. They count under the root alone and widen
	// the intervals of the pairs to which both lists say that they may belong.
	Sources, Destinations []Mass
	// Unknown bytes widen every interval.
	Unknown uint64
}

// Heavy returns the discounted hierarchical heavy hitters in two dimensions for a
// share phi of the total, 0 < phi <= 1, by bytes descending, then by prefixes.
//
// A pair is below another one if its prefixes both are at or below the other's. The
// definition is that of Cormode, Korn, Muthukrishnan and Srivastava (see Tree),
// definition 3.1, with the overlap rule: from the longest pairs up, a pair is heavy
// if its bytes, less those of flows that are below a heavy pair below it, are at
// least phi of the total. Unlike in one dimension a byte may count for several heavy
// pairs of which none is below another.
func (t *PairTraffic) Heavy(levels Levels, phi float64) []HeavyPair {
	total := t.total()
	if total.Bytes == 0 {
		return nil
	}
	threshold := max(1, Threshold(phi, total.Bytes))
	var found []HeavyPair
	left := total.Bytes
	for _, family := range []struct {
		family  Family
		lengths []int
	}{{IPv4, levels.IPv4}, {IPv6, levels.IPv6}} {
		l := newLattice(family.family, family.lengths, t.Masses)
		found = append(found, l.heavy(threshold)...)
		left -= l.covered()
	}
	if left >= threshold {
		found = append(found, HeavyPair{Count: total, Conditioned: left})
	}
	for i := range found {
		found[i].Lower, found[i].Upper = t.interval(&found[i])
	}
	slices.SortFunc(found, func(a, b HeavyPair) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), a.Source.Compare(b.Source), a.Destination.Compare(b.Destination))
	})
	return found
}

func (t *PairTraffic) total() (sum epoch.Count) {
	for i := range t.Masses {
		sum.Add(t.Masses[i].Count)
	}
	for i := range t.Sources {
		sum.Add(t.Sources[i].Count)
	}
	return sum
}

// interval returns the bounds of a pair's bytes.
func (t *PairTraffic) interval(p *HeavyPair) (lower, upper uint64) {
	if p.Source.family == Any {
		return p.Bytes, p.Bytes + t.Unknown
	}
	folded := min(related(t.Sources, p.Source), related(t.Destinations, p.Destination))
	return p.Bytes, p.Bytes + folded + t.Unknown
}

// related sums up the bytes at, below and above a prefix.
func related(masses []Mass, p Prefix) (bytes uint64) {
	for i := range masses {
		if m := masses[i].Prefix; m.Contains(p) || p.Contains(m) {
			bytes += masses[i].Bytes
		}
	}
	return bytes
}

// Contains says that q is at or below p.
func (p Prefix) Contains(q Prefix) bool {
	return p.family == Any || p.family == q.family && p.length <= q.length && q.Truncate(int(p.length)) == p
}
