package window

import (
	"iter"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// counted is what was counted under one key.
type counted[K comparable] struct {
	key K
	epoch.Count
}

// candidateWays is how many keys share a set; a power of two.
const candidateWays = 8

// candidates sums traffic by key in fixed memory: a set-associative table in
// which a newcomer takes the place of its set's smallest key. A key that holds a
// fair share of the traffic is never the smallest of eight, so it stays; what a
// key that left had counted is missing from its sum if it comes again. Sums are
// therefore never too large. The hash is seeded at random, so that nobody can aim
// keys at one set.
type candidates[K comparable] struct {
	hash  func(K, *hashSeed) uint64
	seed  hashSeed
	table []counted[K] // sets of candidateWays; the zero Count marks a free place
	taken []int32      // the places that aren't free: a quiet epoch is cheap
}

// newCandidates returns room for so many keys, a power of two, at least
// candidateWays.
func newCandidates[K comparable](room int, hash func(K, *hashSeed) uint64) candidates[K] {
	return candidates[K]{hash: hash, seed: newHashSeed(), table: make([]counted[K], room)}
}

// add counts under a key.
func (c *candidates[K]) add(key K, count epoch.Count) {
	if count == (epoch.Count{}) {
		return
	}
	first := c.set(key)
	set := c.table[first : first+candidateWays]
	smallest := &set[0]
	for i := range set {
		e := &set[i]
		if e.Count == (epoch.Count{}) {
			*e = counted[K]{key, count}
			c.taken = append(c.taken, int32(first+i))
			return
		}
		if e.key == key {
			e.Count.Add(count)
			return
		}
		if e.Bytes < smallest.Bytes {
			smallest = e
		}
	}
	*smallest = counted[K]{key, count}
}

// set returns the first place of a key's set.
func (c *candidates[K]) set(key K) int {
	sets := uint64(len(c.table) / candidateWays)
	return int(c.hash(key, &c.seed)&(sets-1)) * candidateWays
}

// bytes yields the bytes of each key, in the order of taken.
func (c *candidates[K]) bytes() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, place := range c.taken {
			if !yield(c.table[place].Bytes) {
				return
			}
		}
	}
}

// take returns the n largest, in no order, and empties the table. It uses and
// returns scratch.
func (c *candidates[K]) take(n int, scratch []uint64) ([]counted[K], []uint64) {
	largest, scratch := cutAt(c.bytes(), n, scratch)
	all := make([]counted[K], 0, min(n, len(c.taken)))
	for _, place := range c.taken {
		if e := &c.table[place]; largest.keeps(e.Bytes) {
			all = append(all, *e)
		}
		c.table[place] = counted[K]{}
	}
	c.taken = c.taken[:0]
	return all, scratch
}
