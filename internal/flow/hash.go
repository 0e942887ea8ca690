package flow

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// HashSeed makes hashes of keys unpredictable from outside, for tables and sketches
// that stay on the host; what leaves it is hashed with a siphash.Key.
type HashSeed [5]uint64

// NewHashSeed returns a random seed.
func NewHashSeed() *HashSeed {
	return &HashSeed{rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()}
}

// Hash returns the hash of the key under a seed, by products of 64-bit words whose
// halves are joined (wyhash, Wang Yi).
func (k *Key) Hash(s *HashSeed) uint64 {
	ports := uint64(k.SourcePort)<<32 | uint64(k.DestinationPort)<<16 | uint64(k.Protocol)
	a, b := hashAddress(&k.Source, s), hashAddress(&k.Destination, s)
	return joinProduct(joinProduct(a^s[4], b^s[3])^ports, s[2]|1)
}

func hashAddress(address *[16]byte, s *HashSeed) uint64 {
	a, b := binary.LittleEndian.Uint64(address[:8]), binary.LittleEndian.Uint64(address[8:])
	return joinProduct(joinProduct(a^s[0], b^s[1])^s[2], s[3]|1)
}

func joinProduct(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}
