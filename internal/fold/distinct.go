package fold

import (
	"encoding/binary"
	"math/bits"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// distinct counts the distinct flows of an epoch, their addresses and ports, and the
// peers of addresses.
type distinct struct {
	key                                 siphash.Key
	flows, sources, destinations, ports *hll.Sketch
	pairs                               *pairs.Sample
}

// newDistinct returns an empty one.
func newDistinct(key siphash.Key, seed pairs.Seed) distinct {
	return distinct{key, &hll.Sketch{}, &hll.Sketch{}, &hll.Sketch{}, &hll.Sketch{}, pairs.NewSample(seed)}
}

// insert takes a flow; taking it again changes nothing. The hashes are those of
// the key's canonical encoding, of its addresses, and of four bytes: destination
// port in network order, protocol, zero. So tcp/53 and udp/53 are two.
func (d *distinct) insert(k *flow.Key) {
	words := [5]uint64{
		binary.LittleEndian.Uint64(k.Source[:8]), binary.LittleEndian.Uint64(k.Source[8:]),
		binary.LittleEndian.Uint64(k.Destination[:8]), binary.LittleEndian.Uint64(k.Destination[8:]),
	}
	port := uint32(bits.ReverseBytes16(k.DestinationPort)) | uint32(k.Protocol)<<16
	words[4] = uint64(bits.ReverseBytes16(k.SourcePort)) | uint64(port)<<16
	all, source, destination := d.key.Sum40And16s(&words)
	d.flows.Insert(all)
	d.sources.Insert(source)
	d.destinations.Insert(destination)
	if hash, ok := d.pairs.Samples(source, destination); ok {
		d.pairs.Add(hash, k)
	}
	d.ports.Insert(d.key.Sum4(port))
}

func (d *distinct) reset() {
	for _, s := range []*hll.Sketch{d.flows, d.sources, d.destinations, d.ports} {
		s.Reset()
	}
	d.pairs.Reset()
}

// sketches returns the sketches themselves, not copies.
func (d *distinct) sketches() []epoch.Sketch {
	fingerprint := d.key.Fingerprint()
	return []epoch.Sketch{
		{Of: epoch.OfFlows, KeyFingerprint: fingerprint, HLL: d.flows},
		{Of: epoch.OfSources, KeyFingerprint: fingerprint, HLL: d.sources},
		{Of: epoch.OfDestinations, KeyFingerprint: fingerprint, HLL: d.destinations},
		{Of: epoch.OfDestinationPorts, KeyFingerprint: fingerprint, HLL: d.ports},
	}
}
