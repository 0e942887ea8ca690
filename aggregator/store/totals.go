package store

import (
	"cmp"
	"maps"
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

// Totals are counters over the life of a Store: they never fall. While a bucket is
// open, what it counts may still turn out to be another host's; then they wait
// until there is as much as they said already.
type Totals struct {
	Counted   epoch.Count // traffic of the fleet, each packet once
	Remainder epoch.Count // seen by exporters that don't know its flows
	// Networks is Counted by the networks of both ends, those that have traffic. They
	// add up to it, always.
	Networks []NetworkCount
	// Destinations is Counted by the destination's network alone, and adds up to it
	// as well. It has what is under networks.Unknown there as far as it is known.
	Destinations []Network
}

// NetworkCount is what was from one named network to another. Either may be
// networks.Unnamed or networks.Unknown.
type NetworkCount struct {
	NetworkPair
	epoch.Count
}

// Network is the traffic of a named network.
type Network struct {
	Name string
	epoch.Count
}

// sums are Totals that are being made. Counted is the sum of either map.
type sums struct {
	counted, remainder epoch.Count
	pairs              map[pair]epoch.Count
	destinations       map[uint16]epoch.Count
}

func newSums() sums {
	return sums{pairs: make(map[pair]epoch.Count), destinations: make(map[uint16]epoch.Count)}
}

func (s *sums) clone() sums {
	return sums{s.counted, s.remainder, maps.Clone(s.pairs), maps.Clone(s.destinations)}
}

func (s *sums) add(c *content) {
	s.counted.Add(c.counted)
	s.remainder.Add(c.remainder)
	m := c.matrix()
	for i := range m.cells {
		addTo(s.pairs, m.cells[i].pair, m.cells[i].Count)
	}
	for network, c := range m.destinations() {
		addTo(s.destinations, network, c)
	}
}

func addTo[K comparable](sums map[K]epoch.Count, key K, c epoch.Count) {
	sum := sums[key]
	sum.Add(c)
	sums[key] = sum
}

// raise brings counters that were shown up to others. What fell since stays, until
// there is as much again. The parts go on adding up to the whole: as much as that
// rises, parts rise that are behind.
func (s *sums) raise(to *sums) {
	s.remainder = greatest(s.remainder, to.remainder)
	rise := less(to.counted, s.counted)
	s.counted.Add(rise)
	raise(s.pairs, to.pairs, rise, comparePairs)
	raise(s.destinations, to.destinations, rise, cmp.Compare[uint16])
}

func greatest(a, b epoch.Count) epoch.Count {
	return epoch.Count{Packets: max(a.Packets, b.Packets), Bytes: max(a.Bytes, b.Bytes)}
}

func raise[K comparable](shown, to map[K]epoch.Count, rise epoch.Count, compare func(a, b K) int) {
	for _, key := range slices.SortedFunc(maps.Keys(to), compare) {
		if behind := least(less(to[key], shown[key]), rise); behind != (epoch.Count{}) {
			addTo(shown, key, behind)
			rise.Sub(behind)
		}
	}
}

// Totals returns the counters.
func (s *Store) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maintain(s.now())
	sum := s.closed.clone()
	for _, b := range s.buckets {
		if !b.open {
			continue
		}
		for _, c := range s.read(b) {
			sum.add(c)
		}
	}
	s.shown.raise(&sum)
	return s.shown.totals(s.names.names)
}

// totals returns the counters under their names.
func (s *sums) totals(names []string) Totals {
	t := Totals{Counted: s.counted, Remainder: s.remainder}
	for _, p := range slices.SortedFunc(maps.Keys(s.pairs), comparePairs) {
		t.Networks = append(t.Networks, NetworkCount{NetworkPair{names[p.source], names[p.destination]}, s.pairs[p]})
	}
	for _, network := range slices.Sorted(maps.Keys(s.destinations)) {
		t.Destinations = append(t.Destinations, Network{names[network], s.destinations[network]})
	}
	return t
}

// SetNetworks names networks. What was counted before keeps the names that it had.
func (s *Store) SetNetworks(table *networks.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = s.names.with(table)
	s.unresolve(0)
	s.changed()
}

// NetworkNames returns the networks that go by name.
func (s *Store) NetworkNames() *networks.Table {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names.table
}
