package window

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// start is when the first epoch of a test begins: at the edge of a pane of every
// window.
var start = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

const epochLength = 500 * time.Millisecond

// testEpoch is the epoch of a sequence with these flows, which are all that was
// seen.
func testEpoch(sequence uint64, flows ...epoch.Flow) *epoch.Epoch {
	e := &epoch.Epoch{
		Host:     "host-a",
		Sequence: sequence,
		Start:    start.Add(time.Duration(sequence-1) * epochLength),
		End:      start.Add(time.Duration(sequence) * epochLength),
		Flows:    flows,
	}
	device := epoch.Device{Name: "eth0", Direction: flow.Egress}
	for _, f := range flows {
		device.Total.Add(f.Count)
	}
	e.Devices = []epoch.Device{device}
	return e
}

// testFlow is the flow from one address, by number, to another.
func testFlow(source, destination uint32, bytes uint64) epoch.Flow {
	return epoch.Flow{
		Key: flow.Key{
			Source: address(10, source), Destination: address(172, destination),
			SourcePort: 40000, DestinationPort: 443, Protocol: flow.ProtocolTCP,
		},
		Direction: flow.Egress,
		Count:     epoch.Count{Packets: bytes/1000 + 1, Bytes: bytes},
	}
}

// address is an IPv4 address of a class A network.
func address(network byte, number uint32) [16]byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], number)
	b[0] = network
	return netip.AddrFrom4(b).As16()
}

// mixedFlows returns flows of both families with sizes that differ by orders of
// magnitude.
func mixedFlows(random *rand.Rand, n int) []epoch.Flow {
	flows := make([]epoch.Flow, n)
	for i := range flows {
		flows[i] = testFlow(random.Uint32N(1<<20), random.Uint32N(1<<20), 40+random.Uint64N(1<<random.IntN(24)))
		if i%3 == 0 {
			flows[i].Source = [16]byte{0x20, 1, 0x0d, 0xb8, byte(random.IntN(8)), 15: byte(random.IntN(256))}
			flows[i].Destination = [16]byte{0x20, 1, 0x0d, 0xb8, 0xff, 15: byte(random.IntN(256))}
		}
	}
	return flows
}

// addMess gives the epoch some of everything that isn't a flow.
func addMess(e *epoch.Epoch) {
	d := &e.Devices[0]
	d.Duplicate = epoch.Count{Packets: 7, Bytes: 7000}
	d.Remainder = epoch.Count{Packets: 3, Bytes: 4500}
	d.Others = []epoch.Reason{{Reason: "not_ip", Count: epoch.Count{Packets: 2, Bytes: 84}}}
	folded := epoch.Count{Packets: 11, Bytes: 5000}
	for _, c := range []epoch.Count{d.Duplicate, d.Remainder, d.Others[0].Count, folded} {
		d.Total.Add(c)
	}
	e.Ladders = []epoch.Ladder{
		{Dimension: flow.Source, Entries: []epoch.Prefix{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Count: folded}}},
		{Dimension: flow.Destination, Entries: []epoch.Prefix{{Prefix: netip.MustParsePrefix("172.0.0.7/32"), Count: folded}}},
	}
}
