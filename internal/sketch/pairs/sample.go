// Package pairs finds who talks to the most distinct peers, in constant memory: the
// sources with the most destinations, as a scanner has, and the destinations with
// the most sources, as the victim of a flood has.
//
// It is distinct sampling (Gibbons, "Distinct sampling for highly-accurate answers
// to distinct values queries and event reports", 2001), as Venkataraman, Song,
// Gibbons and Blum apply it to superspreaders ("New streaming algorithms for fast
// detection of superspreaders", 2005): of all pairs of a source and a destination
// those are kept, with both addresses, whose hash begins with so many zeros, their
// level. How often a pair comes, and in which order, changes nothing, and one sample
// serves both directions. The level rises when the room is full.
//
// An address with n distinct peers has a number of sampled pairs that is binomial
// with n and 2^-level. That number times 2^level is an unbiased estimate with a
// relative standard error below sqrt(2^level/n): of one over the root of what was
// sampled of the address. At level 0 it is exact.
//
// The hash mixes keyed hashes of both addresses with a seed of the key, so that nobody
// who doesn't have it can craft pairs that are sampled or aren't; whoever has a public
// one can, where the level isn't 0. Samples with the same seed merge: the union, less
// the pairs below the higher of both levels, is the sample of the union. A Window does
// so with samples of consecutive epochs, and of the hosts of a fleet.
package pairs

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// sampleRoom is how many pairs a Sample keeps at most, in 704 KiB.
const sampleRoom = 1 << 14

// Seed decides which pairs are sampled. It is a secret.
type Seed [2]uint64

// NewSeed returns a random seed.
func NewSeed() Seed { return Seed{rand.Uint64(), rand.Uint64()} }

// pair is one that was sampled.
type pair struct {
	hash                uint64
	source, destination [16]byte
}

// level is up to which level the pair is sampled.
func (p *pair) level() uint8 { return uint8(bits.LeadingZeros64(p.hash)) }

// Sample is the distinct pairs of an epoch from a level on. It isn't safe for
// concurrent use.
type Sample struct {
	seed  Seed
	limit uint64 // hashes up to this one have the level
	level uint8
	least uint8 // level to begin with
	pairs []pair
	index index
}

// NewSample returns an empty sample.
func NewSample(seed Seed) *Sample {
	return &Sample{seed: seed, limit: math.MaxUint64, pairs: make([]pair, 0, sampleRoom), index: newIndex(sampleRoom)}
}

// Samples returns the hash of a pair, given a keyed hash of each address, and whether
// it is to be added. It is small enough to become part of its caller: where there are
// many pairs all but few cost no more than this.
func (s *Sample) Samples(source, destination uint64) (hash uint64, ok bool) {
	high, low := bits.Mul64(source^s.seed[0], destination^s.seed[1])
	return high ^ low, high^low <= s.limit
}

// Add takes the pair of a flow's addresses by its hash; taking it again changes
// nothing.
func (s *Sample) Add(hash uint64, k *flow.Key) {
	at := s.find(hash)
	if s.index.places[at] != 0 {
		return
	}
	if len(s.pairs) == sampleRoom {
		s.raise()
		if hash > s.limit {
			return
		}
		at = s.find(hash)
	}
	s.pairs = append(s.pairs, pair{hash, k.Source, k.Destination})
	s.index.places[at] = uint16(len(s.pairs))
}

// find returns where the index has the pair of a hash, or would have it.
func (s *Sample) find(hash uint64) uint64 {
	at := s.index.first(hash)
	for s.index.places[at] != 0 && s.pairs[s.index.places[at]-1].hash != hash {
		at = s.index.next(at)
	}
	return at
}

// raise makes room for at least one pair.
func (s *Sample) raise() {
	for len(s.pairs) == sampleRoom {
		s.setLevel(s.level + 1)
		s.pairs = slices.DeleteFunc(s.pairs, func(p pair) bool { return p.hash > s.limit })
	}
	clear(s.index.places)
	for i := range s.pairs {
		s.index.places[s.find(s.pairs[i].hash)] = uint16(i + 1)
	}
}

func (s *Sample) setLevel(level uint8) {
	s.level, s.limit = level, math.MaxUint64>>level
}

// Reset empties the sample. It begins the next epoch at the level at which a third
// of the room would have done for the last one, or at that of a window it was added
// to.
func (s *Sample) Reset() {
	next := s.level
	for n := len(s.pairs); next > 0 && n <= sampleRoom/3; n *= 2 {
		next--
	}
	s.setLevel(max(next, s.least))
	if len(s.pairs) > 0 {
		clear(s.index.places)
	}
	s.pairs = s.pairs[:0]
}

// index says where in a list the element of a hash is: open addressing, half full
// at most. 0 is a free place, other values are one more than the position.
type index struct {
	places []uint16
	mask   uint64
}

// newIndex is for lists of at most so many elements, a power of two below 2^16.
func newIndex(room int) index { return index{make([]uint16, 2*room), uint64(2*room - 1)} }

// first returns the place to look at first. The low bits of a hash have nothing to
// do with its level.
func (x *index) first(hash uint64) uint64 { return hash & x.mask }

func (x *index) next(at uint64) uint64 { return (at + 1) & x.mask }
