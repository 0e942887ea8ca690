package top

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// start is when the first epoch of a test begins.
var start = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

const epochLength = 500 * time.Millisecond

// testEpoch is the epoch of a sequence with these flows, which are all that was seen.
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

func testKey(source, destination string, protocol uint8) flow.Key {
	from, to := netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
	return flow.Key{
		Source: from.Addr().As16(), Destination: to.Addr().As16(),
		SourcePort: from.Port(), DestinationPort: to.Port(), Protocol: protocol,
	}
}

// testFlow has a packet for each 1,000 bytes.
func testFlow(source, destination string, protocol uint8, bytes uint64) epoch.Flow {
	return epoch.Flow{Key: testKey(source, destination, protocol), Count: epoch.Count{Packets: bytes / 1000, Bytes: bytes}}
}

// steady is flows of different kinds, the same each epoch.
var steady = []epoch.Flow{
	testFlow("10.0.0.1:40000", "172.16.0.10:443", flow.ProtocolTCP, 500_000),
	testFlow("10.0.0.2:40001", "172.16.0.10:443", flow.ProtocolTCP, 250_000),
	testFlow("[2001:db8:1234:5678:9abc:def0:1234:5678]:50000", "[2001:db8::1]:53", flow.ProtocolUDP, 100_000),
	testFlow("10.0.1.3:8", "192.168.100.200:0", flow.ProtocolICMP, 50_000),
	testFlow("10.0.0.1:33333", "10.9.8.7:44444", flow.ProtocolUDP, 25_000),
}

// mixedEpoch has all that an epoch can have: steady flows, folded ones, duplicates,
// what has no 5-tuple, a remainder and sketches.
func mixedEpoch(sequence uint64) *epoch.Epoch {
	e := testEpoch(sequence, steady...)
	folded, more := epoch.Count{Packets: 40, Bytes: 30_000}, epoch.Count{Packets: 10, Bytes: 10_000}
	e.Ladders = []epoch.Ladder{
		{Dimension: flow.Source, Entries: []epoch.Prefix{
			{Prefix: netip.MustParsePrefix("10.0.0.1/32"), Count: folded}, {Prefix: netip.MustParsePrefix("10.7.0.0/16"), Count: more}}},
		{Dimension: flow.Destination, Entries: []epoch.Prefix{
			{Prefix: netip.MustParsePrefix("172.16.0.0/24"), Count: folded}, {Prefix: netip.MustParsePrefix("::/0"), Count: more}}},
	}
	egress, others := &e.Devices[0], epoch.Count{Packets: 1, Bytes: 60}
	egress.Remainder = epoch.Count{Packets: 5, Bytes: 5000}
	egress.Others = []epoch.Reason{{Reason: "arp", Count: others}}
	for _, c := range []epoch.Count{folded, more, egress.Remainder, others} {
		egress.Total.Add(c)
	}
	twice := epoch.Count{Packets: 100, Bytes: 123_000}
	e.Devices = append(e.Devices, epoch.Device{Name: "br0", Direction: flow.Ingress, Total: twice, Duplicate: twice})
	random := rand.New(rand.NewPCG(1, 2)) // the same things each epoch
	for i, of := range distinct {
		s := epoch.Sketch{Of: of, KeyFingerprint: 7, HLL: &hll.Sketch{}}
		for range 100 * (i + 1) {
			s.HLL.Insert(random.Uint64())
		}
		e.Sketches = append(e.Sketches, s)
	}
	return e
}

// filled is a history of so many epochs, made by their sequence.
func filled(n int, made func(sequence uint64) *epoch.Epoch) *history {
	h := &history{}
	for i := range n {
		h.add(made(uint64(i + 1)))
	}
	return h
}
