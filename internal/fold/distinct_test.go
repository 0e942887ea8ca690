package fold

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// What hosts hash must be the same everywhere: the oracle hashes bytes.
func TestDistinctHashesTheCanonicalKey(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	key := siphash.NewKey([16]byte{1, 2, 3})
	d := newDistinct(key, pairs.NewSeed())
	var want [4]hll.Sketch
	for range 2000 {
		k := testKey(r.Uint64N(1 << 40))
		k.SourcePort, k.DestinationPort, k.Protocol = uint16(r.Uint32()), uint16(r.Uint32()), uint8(r.Uint32())
		k.Source[0] = uint8(r.Uint32())
		d.insert(&k)
		var canonical [flow.KeyLen]byte
		k.Canonical(&canonical)
		port := binary.BigEndian.AppendUint16(nil, k.DestinationPort)
		for i, item := range [][]byte{canonical[:], k.Source[:], k.Destination[:], append(port, k.Protocol, 0)} {
			want[i].Insert(key.Sum(item))
		}
	}
	for i, s := range d.sketches() {
		if *s.HLL != want[i] {
			t.Errorf("sketch of %s isn't that of the canonical bytes", s.Of)
		}
	}
}
