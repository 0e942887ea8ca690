package window

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// connections are steady traffic in both directions: clients of several networks, a
// quarter of them IPv6 with random interface identifiers, and servers of this site
// and of the rest of the world.
func connections(r *rand.Rand, n int) (keys []flow.Key) {
	for len(keys) < n {
		k := flow.Key{
			Source: address(10, r.Uint32N(3)<<16|r.Uint32N(4)<<8|r.Uint32N(250)), Destination: address(byte(20+r.IntN(150)), r.Uint32()),
			SourcePort: uint16(32768 + r.IntN(28000)), DestinationPort: []uint16{443, 443, 443, 80, 53, 5432, 8080}[r.IntN(7)],
			Protocol: []uint8{flow.ProtocolTCP, flow.ProtocolTCP, flow.ProtocolUDP}[r.IntN(3)],
		}
		switch r.IntN(12) {
		case 0, 1, 2:
			k.Source = [16]byte{0x20, 1, 0x0d, 0xb8, 0, byte(r.IntN(4))}
			binary.BigEndian.PutUint64(k.Source[8:], r.Uint64())
			k.Destination = [16]byte{0x2a, byte(r.IntN(4)), byte(r.Uint32()), byte(r.Uint32()), 15: byte(r.IntN(100))}
		case 3, 4, 5:
			k.Destination = address(10, 9<<16|r.Uint32N(30))
		}
		back := flow.Key{Source: k.Destination, Destination: k.Source, SourcePort: k.DestinationPort, DestinationPort: k.SourcePort, Protocol: k.Protocol}
		keys = append(keys, k, back)
	}
	return keys
}

// someTraffic is a count as of half a second of a flow.
func someTraffic(r *rand.Rand) epoch.Count {
	packets := 1 + r.Uint64N(1<<r.IntN(10))
	return epoch.Count{Packets: packets, Bytes: packets*66 + r.Uint64N(packets*1400)}
}

// anything is a flow between any two addresses of a family.
func anything(r *rand.Rand, ipv6 bool) (k flow.Key) {
	k = flow.Key{SourcePort: uint16(r.Uint32()), DestinationPort: uint16(r.Uint32()), Protocol: uint8(r.Uint32())}
	k.Source, k.Destination = address(byte(r.Uint32()), r.Uint32()), address(byte(r.Uint32()), r.Uint32())
	if ipv6 {
		for i := range k.Source {
			k.Source[i], k.Destination[i] = byte(r.Uint32()), byte(r.Uint32())
		}
	}
	return k
}

// sizedTraffic is what comes in an epoch, and what that may take on the wire with the
// default configuration: half of what is promised for a second.
type sizedTraffic struct {
	entries int // of the flow table
	bytes   int
	records func(r *rand.Rand) []fold.Record
}

func recordsOf(r *rand.Rand, n int, key func(i int) flow.Key) []fold.Record {
	records := make([]fold.Record, n)
	for i := range records {
		records[i].Key, records[i].Count = key(i), someTraffic(r)
	}
	return records
}

const ordinarySize, floodSize = 16 << 10, 64 << 10

var sizedTraffics = map[string]sizedTraffic{
	"idle": {1000, 1 << 10, func(*rand.Rand) []fold.Record { return nil }},
	"1,000 flows": {50_000, ordinarySize, func(r *rand.Rand) []fold.Record {
		keys := connections(r, 1000)
		return recordsOf(r, 1000, func(i int) flow.Key { return keys[i] })
	}},
	"83,000 flows": {150_000, floodSize, func(r *rand.Rand) []fold.Record {
		keys := connections(r, 83_000)
		return recordsOf(r, 83_000, func(i int) flow.Key { return keys[i] })
	}},
	"a scan": {50_000, floodSize, func(r *rand.Rand) []fold.Record {
		return recordsOf(r, 200_000, func(i int) flow.Key {
			return flow.Key{Source: address(10, 1), Destination: address(172, uint32(i)), SourcePort: uint16(r.Uint32()), DestinationPort: uint16(i), Protocol: flow.ProtocolTCP}
		})
	}},
	"spoofed sources": {20_000, floodSize, func(r *rand.Rand) []fold.Record {
		return recordsOf(r, 250_000, func(int) flow.Key {
			k := anything(r, false)
			k.Destination, k.Protocol = address(10, 7), flow.ProtocolTCP
			return k
		})
	}},
	"a million flows a second of any kind": {20_000, floodSize, func(r *rand.Rand) []fold.Record {
		return recordsOf(r, 500_000, func(i int) flow.Key { return anything(r, i%2 == 0) })
	}},
}

// sizedEpoch closes an epoch of the records, of a host in a fleet to which a quarter of
// all addresses belongs: all three classes have their ladders.
func sizedEpoch(l *fold.Ledger, sequence uint64, records []fold.Record) *epoch.Epoch {
	seed := hashSeed{1, 2, 3, 4, 5}
	device := epoch.Device{Name: "eth0"}
	for i := range records {
		records[i].Point, records[i].Hash = 2, hashFlow(records[i].Key, &seed)
		device.Total.Add(records[i].Count)
		l.Add(0, &records[i])
	}
	e := testEpoch(sequence)
	b := l.Close(0)
	e.Devices, e.Flows, e.Ladders, e.Sketches = []epoch.Device{device}, b.Flows, b.Ladders, b.Sketches
	e.Pairs = b.Pairs
	return e
}

var quarterFleet = []netip.Prefix{netip.MustParsePrefix("64.0.0.0/2"), netip.MustParsePrefix("4000::/2")}

// What goes out is as small as promised, whatever the traffic, and is more than just
// small: it has flows and prefixes for all there is room for, and every byte.
func TestMessagesAreSmall(t *testing.T) {
	for name := range floods {
		sizedTraffics[name] = sizedTraffic{len(readFlood(t, name)) / 10, floodSize, func(*rand.Rand) []fold.Record { return readFlood(t, name) }}
	}
	for name, traffic := range sizedTraffics {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			l := fold.NewLedger(fold.LedgerConfig{Entries: traffic.entries, LadderEntries: ladderEntries, SketchWidth: 1024, Points: 4})
			defer l.Free()
			l.SetClassifier(fold.Classifier{Fleet: quarterFleet})
			h := newTestHistory(1000)
			h.config.Fleet = quarterFleet
			for sequence := range uint64(3) {
				e := sizedEpoch(l, sequence+1, traffic.records(r))
				add(t, h, e)
				b := h.After(sequence, 1, 1)
				got := decode(t, b)[0] // which refuses what doesn't conserve
				n, prefixesSent, prefixesThere := len(b.Epochs[0]), prefixes(got.Ladders, noRoom), prefixes(h.Trimmed().Ladders, noRoom)
				t.Logf("%d flows, %d prefixes: %d flows, %d prefixes in %d bytes", len(e.Flows), prefixesThere, len(got.Flows), prefixesSent, n)
				if n > traffic.bytes {
					t.Errorf("%d bytes, want at most %d", n, traffic.bytes)
				}
				less := prefixesSent < prefixesThere || len(got.Flows) < min(1000, len(e.Flows))
				if less && (n < traffic.bytes*3/4 || len(got.Flows) < 300 || prefixesSent < 1000) {
					t.Errorf("%d bytes with %d flows and %d prefixes: more was folded than needed", n, len(got.Flows), prefixesSent)
				}
				l.Reset(0)
			}
		})
	}
}
