package window

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// hashSeed makes the hashes below unpredictable from outside. They choose places in
// a table and leave the process in no way.
type hashSeed flow.HashSeed

func newHashSeed() hashSeed {
	return hashSeed{rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()}
}

// fold64 mixes two words: the halves of their product (wyhash, Wang Yi).
func fold64(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

func hashAddress(address [16]byte, s *hashSeed) uint64 {
	a, b := binary.LittleEndian.Uint64(address[:8]), binary.LittleEndian.Uint64(address[8:])
	return fold64(fold64(a^s[0], b^s[1])^s[2], s[3]|1)
}

func hashService(v flow.Service, s *hashSeed) uint64 {
	return fold64(fold64(uint64(v.Port)<<8^uint64(v.Protocol)^s[0], s[1]|1)^s[2], s[3]|1)
}

func hashFlow(key flow.Key, s *hashSeed) uint64 { return key.Hash((*flow.HashSeed)(s)) }
