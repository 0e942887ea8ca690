// Package entropy estimates how evenly packets are spread over addresses, in
// constant memory: the Shannon entropy of the empirical distribution
//
//	H = log2 T - (1/T) sum of n log2 n
//
// over keys with n packets each, T in all.
//
// Large keys and small ones are told apart. Packets are counted in a histogram
// of hashed keys, in which a large key stands out from its bucket's mean; less large
// ones do so in histograms of a quarter of the keys, a sixteenth and a 64th. Of the
// small ones a bottom-k sample is kept (Cohen and Kaplan, "Summarizing data using
// bottom-k sketches", 2007): the keys with the smallest hashes, with exact counts.
// What log2 n is on the average over the sample's packets, it is taken to be over
// all packets of small keys. As long as there are no more keys than the sample has
// room for, the entropy is exact.
//
// Measured, H/log2(keys) has a root mean square error of at most 0.012 for
// uniform and Zipf distributions of 100,000 keys; the tests bound it by 0.025.
//
// Keys come in as 64-bit hashes, whose seed must be secret, or else keys can be
// crafted that collide. Sketches whose keys were hashed alike merge: buckets and
// counts add up, up to the smaller of both samples' greatest hashes. Merged sketches
// are exactly those of all the packets.
package entropy

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

const (
	// buckets of a histogram; a power of two.
	buckets = 1024
	// histograms of all keys, a quarter, a sixteenth and a 64th of them.
	histograms = 4
	// sampleRoom is the number of keys in a sample.
	sampleRoom = 1024
)

// keyCount is a key of a sample.
type keyCount struct {
	hash    uint64
	packets uint64
}

// Sketch is of the packets of a span of time. The zero value isn't ready. It isn't
// safe for concurrent use.
type Sketch struct {
	counts [histograms][buckets]uint32
	sample []keyCount // by hash
	limit  uint64     // keys up to this hash are in the sample
	hidden uint64     // packets of unknown keys
}

// NewSketch returns an empty sketch.
func NewSketch() *Sketch {
	return &Sketch{sample: make([]keyCount, 0, sampleRoom), limit: math.MaxUint64}
}

// Reset empties the sketch.
func (s *Sketch) Reset() {
	*s = Sketch{sample: s.sample[:0], limit: math.MaxUint64}
}

// AddHidden counts packets whose keys aren't known.
func (s *Sketch) AddHidden(packets uint64) { s.hidden += packets }

// lastOf returns the greatest hash of the keys that a histogram counts.
func lastOf(histogram int) uint64 { return math.MaxUint64 >> (2 * histogram) }

// histogramOf returns the last histogram that counts a key. It is put into that one
// alone: what the others lack is added when they are read.
func histogramOf(hash uint64) int { return min(bits.LeadingZeros64(hash)/2, histograms-1) }

// bucketOf has nothing to do with the order of hashes.
func bucketOf(hash uint64) uint64 { return hash % buckets }

// Add adds an epoch's packets. Of the accumulator's keys the sample's remain; it is to
// be reset before it is used again.
func (s *Sketch) Add(a *Accumulator) {
	for h := range a.counts {
		for i, n := range a.counts[h] {
			s.counts[h][i] = saturate(uint64(s.counts[h][i]) + n)
		}
	}
	s.hidden += a.hidden
	s.merge(a.sorted(), a.limit)
}

func saturate(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// merge adds a sample.
func (s *Sketch) merge(other []keyCount, limit uint64) {
	var merged [2 * sampleRoom]keyCount
	union := mergeSorted(merged[:0], s.sample, other)
	s.limit = min(s.limit, limit)
	n, _ := slices.BinarySearchFunc(union, s.limit, func(k keyCount, limit uint64) int {
		if k.hash <= limit {
			return -1
		}
		return 1
	})
	if n > sampleRoom {
		n, s.limit = sampleRoom, union[sampleRoom].hash-1
	}
	s.sample = append(s.sample[:0], union[:n]...)
}

// mergeSorted appends the union of two lists that are sorted by hash, counts of the
// same key added up.
func mergeSorted(to, a, b []keyCount) []keyCount {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].hash < b[0].hash:
			to, a = append(to, a[0]), a[1:]
		case a[0].hash > b[0].hash:
			to, b = append(to, b[0]), b[1:]
		default:
			to = append(to, keyCount{a[0].hash, a[0].packets + b[0].packets})
			a, b = a[1:], b[1:]
		}
	}
	return append(append(to, a...), b...)
}

// accumulatorRoom is how many keys an Accumulator has before it looks which are the
// smallest; its table is half full then.
const accumulatorRoom = 4 * sampleRoom

// Accumulator takes the counts of one epoch, for some nanoseconds each. The zero
// value isn't ready.
type Accumulator struct {
	counts [histograms][buckets]uint64
	hidden uint64
	limit  uint64
	keys   []keyCount
	places [2 * accumulatorRoom]uint16 // by hash, one more than the position in keys
}

// NewAccumulator returns an empty one.
func NewAccumulator() *Accumulator {
	return &Accumulator{limit: math.MaxUint64, keys: make([]keyCount, 0, accumulatorRoom)}
}

// Reset empties the accumulator. It begins the next epoch with a limit up to which
// there would have been twice the sample in the last one, so that it seldom has to
// look which keys are the smallest.
func (a *Accumulator) Reset() {
	if len(a.keys) > 0 {
		clear(a.places[:])
	}
	clear(a.counts[:])
	a.keys, a.hidden = a.keys[:0], 0
	if a.limit <= math.MaxUint64/2 {
		a.limit *= 2
	} else {
		a.limit = math.MaxUint64
	}
}

// Add counts packets of a key.
func (a *Accumulator) Add(hash, packets uint64) {
	a.counts[histogramOf(hash)][bucketOf(hash)] += packets
	if hash <= a.limit {
		a.addKey(hash, packets)
	}
}

// AddHidden counts packets whose keys aren't known.
func (a *Accumulator) AddHidden(packets uint64) { a.hidden += packets }

func (a *Accumulator) addKey(hash, packets uint64) {
	at := a.find(hash)
	if place := a.places[at]; place != 0 {
		a.keys[place-1].packets += packets
		return
	}
	if len(a.keys) == accumulatorRoom {
		a.shrink()
		if hash > a.limit {
			return
		}
		at = a.find(hash)
	}
	a.keys = append(a.keys, keyCount{hash, packets})
	a.places[at] = uint16(len(a.keys))
}

// find returns where the key of a hash is, or would be.
func (a *Accumulator) find(hash uint64) uint64 {
	const mask = uint64(len(a.places) - 1)
	at := hash / buckets & mask
	for a.places[at] != 0 && a.keys[a.places[at]-1].hash != hash {
		at = (at + 1) & mask
	}
	return at
}

// sorted returns the smallest keys by hash, all up to the limit.
func (a *Accumulator) sorted() []keyCount {
	slices.SortFunc(a.keys, func(x, y keyCount) int { return cmp.Compare(x.hash, y.hash) })
	if len(a.keys) > sampleRoom {
		a.limit = a.keys[sampleRoom].hash - 1
		a.keys = a.keys[:sampleRoom]
	}
	return a.keys
}

// shrink leaves the smallest keys alone.
func (a *Accumulator) shrink() {
	a.sorted()
	clear(a.places[:])
	for i := range a.keys {
		a.places[a.find(a.keys[i].hash)] = uint16(i + 1)
	}
}
