package hhh

import (
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// lattice is all pairs of prefixes of one family that have traffic, level by level:
// those with a source of one length and a destination of another.
type lattice struct {
	family                Family
	lengths               []int
	sources, destinations axis
	leaves                []leaf
	// reach[i*len(lengths)+l] is 1 more than the greatest level of the destination
	// at which leaf i is below a heavy pair whose source has level l or a longer
	// one; 0 if there is none. So whether a heavy pair below the pair at levels
	// (s, d) has the leaf below it is whether reach of s is greater than d.
	reach []uint8
}

// leaf is the traffic of a pair of addresses, by their numbers on the axes.
type leaf struct {
	source, destination uint32
	epoch.Count
}

// axis numbers the prefixes of one dimension.
type axis struct {
	addresses []record   // sorted, each once
	nodes     [][]uint32 // by level, the number of the prefix above each address
}

func newLattice(f Family, lengths []int, masses []PairMass) *lattice {
	l := &lattice{family: f, lengths: lengths}
	var sources, destinations []record
	for i := range masses {
		if m := &masses[i]; AddrPrefix(m.Source).family == f {
			sources = append(sources, addressRecord(m.Source))
			destinations = append(destinations, addressRecord(m.Destination))
			l.leaves = append(l.leaves, leaf{Count: m.Count})
		}
	}
	l.sources, l.destinations = newAxis(sources, lengths), newAxis(destinations, lengths)
	for i := range l.leaves {
		l.leaves[i].source, l.leaves[i].destination = l.sources.number(&sources[i]), l.destinations.number(&destinations[i])
	}
	l.reach = make([]uint8, len(l.leaves)*len(lengths))
	return l
}

func addressRecord(address [16]byte) record {
	p := AddrPrefix(address)
	return record{hi: p.hi, lo: p.lo}
}

func newAxis(addresses []record, lengths []int) axis {
	sorted := slices.Clone(addresses)
	if len(sorted) > 1 {
		sortRecords(sorted, make([]record, len(sorted)))
	}
	a := axis{addresses: slices.Compact(sorted), nodes: make([][]uint32, len(lengths))}
	for l, length := range lengths {
		a.nodes[l] = make([]uint32, len(a.addresses))
		for i := 1; i < len(a.addresses); i++ {
			a.nodes[l][i] = a.nodes[l][i-1]
			if common(&a.addresses[i-1], &a.addresses[i]) < length {
				a.nodes[l][i]++
			}
		}
	}
	return a
}

// number returns the number of an address.
func (a *axis) number(address *record) uint32 {
	i, _ := slices.BinarySearchFunc(a.addresses, address, func(x record, y *record) int {
		switch {
		case less(&x, y):
			return -1
		case less(y, &x):
			return 1
		}
		return 0
	})
	return uint32(i)
}

// pairSum is what is at and below a pair.
type pairSum struct {
	epoch.Count
	conditioned uint64
	leaf        int // one that is below it
}

// heavy finds the heavy pairs from the longest up. A pair is only looked at if all
// of its traffic together reaches the threshold, which no pair below one that
// doesn't can do: so most levels have few pairs.
func (l *lattice) heavy(threshold uint64) []HeavyPair {
	n := len(l.lengths)
	candidates := l.candidates(threshold)
	var found []HeavyPair
	for depth := 2 * (n - 1); depth >= 0; depth-- {
		for s := max(0, depth-n+1); s <= min(depth, n-1); s++ {
			found = append(found, l.heavyAt(s, depth-s, candidates[s*n+depth-s], threshold)...)
		}
	}
	return found
}

// key returns the pair above a leaf at some levels.
func (l *lattice) key(i, s, d int) uint64 {
	leaf := &l.leaves[i]
	return uint64(l.sources.nodes[s][leaf.source])<<32 | uint64(l.destinations.nodes[d][leaf.destination])
}

// candidates returns, for each two levels, the pairs whose traffic reaches the
// threshold, from the shortest down.
func (l *lattice) candidates(threshold uint64) []map[uint64]pairSum {
	n := len(l.lengths)
	all := make([]map[uint64]pairSum, n*n)
	for s := range n {
		for d := range n {
			sums := make(map[uint64]pairSum)
			for i := range l.leaves {
				if s > 0 && !has(all[(s-1)*n+d], l.key(i, s-1, d)) || d > 0 && !has(all[s*n+d-1], l.key(i, s, d-1)) {
					continue
				}
				key := l.key(i, s, d)
				sum := sums[key]
				sum.Count.Add(l.leaves[i].Count)
				sum.leaf = i
				sums[key] = sum
			}
			for key, sum := range sums {
				if sum.Bytes < threshold {
					delete(sums, key)
				}
			}
			all[s*n+d] = sums
		}
	}
	return all
}

func has(sums map[uint64]pairSum, key uint64) bool {
	_, ok := sums[key]
	return ok
}

// heavyAt finds the heavy pairs at two levels and covers what is below them.
func (l *lattice) heavyAt(s, d int, candidates map[uint64]pairSum, threshold uint64) []HeavyPair {
	if len(candidates) == 0 {
		return nil
	}
	n := len(l.lengths)
	for i := range l.leaves {
		if int(l.reach[i*n+s]) > d {
			continue
		}
		if sum, ok := candidates[l.key(i, s, d)]; ok {
			sum.conditioned += l.leaves[i].Bytes
			candidates[l.key(i, s, d)] = sum
		}
	}
	var found []HeavyPair
	for key, sum := range candidates {
		if sum.conditioned < threshold {
			delete(candidates, key)
			continue
		}
		found = append(found, HeavyPair{Pair: l.pair(sum.leaf, s, d), Count: sum.Count, Conditioned: sum.conditioned})
	}
	l.cover(s, d, candidates)
	return found
}

// cover notes for the leaves below heavy pairs that they are.
func (l *lattice) cover(s, d int, heavy map[uint64]pairSum) {
	if len(heavy) == 0 {
		return
	}
	n := len(l.lengths)
	for i := range l.leaves {
		if !has(heavy, l.key(i, s, d)) {
			continue
		}
		for at := range s + 1 {
			l.reach[i*n+at] = max(l.reach[i*n+at], uint8(d+1))
		}
	}
}

// covered returns the bytes that are below any heavy pair.
func (l *lattice) covered() (bytes uint64) {
	for i := range l.leaves {
		if l.reach[i*len(l.lengths)] > 0 {
			bytes += l.leaves[i].Bytes
		}
	}
	return bytes
}

// pair returns the prefixes above a leaf at some levels.
func (l *lattice) pair(i, s, d int) Pair {
	prefix := func(r *record, length int) Prefix {
		hi, lo := mask(length)
		return Prefix{hi: r.hi & hi, lo: r.lo & lo, family: l.family, length: uint8(length)}
	}
	leaf := &l.leaves[i]
	return Pair{
		prefix(&l.sources.addresses[leaf.source], l.lengths[s]),
		prefix(&l.destinations.addresses[leaf.destination], l.lengths[d]),
	}
}
