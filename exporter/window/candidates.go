package window

import (
	"iter"
	"math"

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
	lines []candidateLine // one a set
	table []counted[K]    // sets of candidateWays
	taken []int32         // the places that aren't free: a quiet epoch is cheap
	lost  []uint64        // bytes of keys that left, by set; made when one does
	most  uint64          // of lost
}

// candidateLine is what is looked at first of a set, a cache line: most keys need
// no more than that and their own place.
type candidateLine struct {
	tags   [candidateWays]uint32 // of the keys' hashes
	weight [candidateWays]uint32 // bytes, as far as they fit; 0 is a free place
}

// newCandidates returns room for so many keys, a power of two, at least
// candidateWays.
func newCandidates[K comparable](room int, hash func(K, *hashSeed) uint64) candidates[K] {
	return candidates[K]{
		hash: hash, seed: newHashSeed(),
		lines: make([]candidateLine, room/candidateWays), table: make([]counted[K], room),
	}
}

// add counts under a key.
func (c *candidates[K]) add(key K, count epoch.Count) {
	if count == (epoch.Count{}) {
		return
	}
	hash := c.hash(key, &c.seed)
	set, tag := int(hash&uint64(len(c.lines)-1)), uint32(hash>>32)
	line, smallest := &c.lines[set], 0
	for way := range line.tags {
		if line.tags[way] == tag && line.weight[way] != 0 {
			if e := &c.table[set*candidateWays+way]; e.key == key {
				e.Count.Add(count)
				line.weight[way] = weightOf(e.Bytes)
				return
			}
		}
		if line.weight[way] < line.weight[smallest] {
			smallest = way
		}
	}
	if line.weight[smallest] == 0 {
		c.taken = append(c.taken, int32(set*candidateWays+smallest))
	} else {
		c.lose(set, c.table[set*candidateWays+smallest].Bytes)
	}
	line.tags[smallest], line.weight[smallest] = tag, weightOf(count.Bytes)
	c.table[set*candidateWays+smallest] = counted[K]{key, count}
}

// lose notes what the sum of a set's key will lack, should it come again.
func (c *candidates[K]) lose(set int, bytes uint64) {
	if c.lost == nil {
		c.lost = make([]uint64, len(c.lines))
	}
	c.lost[set] += bytes
	c.most = max(c.most, c.lost[set])
}

func weightOf(bytes uint64) uint32 { return uint32(max(1, min(bytes, math.MaxUint32))) }

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

// take returns the pane of the n largest and of some chosen keys besides, in no
// order, and empties the table. It uses and returns scratch.
func (c *candidates[K]) take(n int, chosen iter.Seq[K], scratch []uint64) (pane[K], []uint64) {
	all := make([]counted[K], 0, min(n, len(c.taken)))
	for key := range chosen {
		if count := c.pull(key); count != (epoch.Count{}) {
			all = append(all, counted[K]{key, count})
		}
	}
	largest, scratch := cutAt(c.bytes(), n, scratch)
	for _, place := range c.taken {
		if e := &c.table[place]; largest.Keeps(e.Bytes) && e.Count != (epoch.Count{}) {
			all = append(all, *e)
		}
		c.lines[place/candidateWays].weight[place%candidateWays] = 0
	}
	c.taken = c.taken[:0]
	p := pane[K]{largest: all, limits: limits{missed: c.most, left: largest.Threshold}}
	clear(c.lost)
	c.most = 0
	return p, scratch
}

// pull takes the count of one key out, which leaves its place with none.
func (c *candidates[K]) pull(key K) (count epoch.Count) {
	hash := c.hash(key, &c.seed)
	set, tag := int(hash&uint64(len(c.lines)-1)), uint32(hash>>32)
	line := &c.lines[set]
	for way := range line.tags {
		e := &c.table[set*candidateWays+way]
		if line.tags[way] == tag && line.weight[way] != 0 && e.key == key {
			count, e.Count = e.Count, epoch.Count{}
		}
	}
	return count
}
