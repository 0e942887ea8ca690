package fold

import (
	"encoding/binary"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// distinct counts the distinct flows of an epoch, and their addresses and ports.
type distinct struct {
	key                                 siphash.Key
	flows, sources, destinations, ports *hll.Sketch
}

func newDistinct(key siphash.Key) distinct {
	return distinct{key, &hll.Sketch{}, &hll.Sketch{}, &hll.Sketch{}, &hll.Sketch{}}
}

// insert takes a flow; taking it again changes nothing. A destination port is one
// of its protocol: tcp/53 and udp/53 are two.
func (d *distinct) insert(k *flow.Key) {
	var canonical [flow.KeyLen]byte
	k.Canonical(&canonical)
	d.flows.Insert(d.key.Sum(canonical[:]))
	d.sources.Insert(d.key.Sum(k.Source[:]))
	d.destinations.Insert(d.key.Sum(k.Destination[:]))
	var port [4]byte
	binary.BigEndian.PutUint16(port[:], k.DestinationPort)
	port[2] = k.Protocol
	d.ports.Insert(d.key.Sum(port[:]))
}

func (d *distinct) reset() {
	for _, s := range []*hll.Sketch{d.flows, d.sources, d.destinations, d.ports} {
		s.Reset()
	}
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
