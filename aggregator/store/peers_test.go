package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// folding is an exporter's ledger with room for 2,000 flows.
type folding struct {
	name     string
	ledger   *fold.Ledger
	sequence uint64
}

func newFolding(t *testing.T, name string, fleetKey byte) *folding {
	key := siphash.NewKey([siphash.KeyLen]byte{fleetKey})
	l := fold.NewLedger(fold.LedgerConfig{Entries: 2000, LadderEntries: 64, SketchWidth: 64, Points: 4, Key: key})
	t.Cleanup(l.Free)
	return &folding{name: name, ledger: l}
}

// send passes an epoch of half a second with these flows to a store, by the wire.
func (f *folding) send(t *testing.T, s *Store, end time.Time, keys []flow.Key) {
	t.Helper()
	f.sequence++
	device := epoch.Device{Name: "eth0"}
	for i := range keys {
		r := fold.Record{Key: keys[i], Count: epoch.Count{Packets: 1, Bytes: 64}, Point: 1, Hash: uint64(i) * 0x9e3779b97f4a7c15}
		f.ledger.Add(0, &r)
		device.Total.Add(r.Count)
	}
	b := f.ledger.Close(0)
	e := &epoch.Epoch{
		Host: f.name, Sequence: f.sequence, Start: end.Add(-epochLength), End: end,
		Devices: []epoch.Device{device}, Flows: b.Flows, Ladders: b.Ladders, Sketches: b.Sketches, Pairs: b.Pairs,
	}
	e.SamplePairs()
	encoded, err := epoch.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	f.ledger.Reset(0)
	batch, err := epoch.DecodeBatch(epoch.EncodeBatch([16]byte{}, 1, 1, [][]byte{encoded}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(f.name, batch.Epochs[0]); err != nil {
		t.Fatal(err)
	}
}

func ipv4(n uint32) (a [16]byte) {
	a[10], a[11] = 0xff, 0xff
	binary.BigEndian.PutUint32(a[12:], n)
	return a
}

// ordinary is n flows between clients and some servers.
func ordinary(r *rand.Rand, n int) (keys []flow.Key) {
	for range n {
		keys = append(keys, flow.Key{Source: ipv4(10<<24 | r.Uint32N(300)), Destination: ipv4(20<<24 | r.Uint32N(100)), SourcePort: uint16(r.Uint32())})
	}
	return keys
}

func peersOf(top pairs.Top, address string) uint64 {
	for i := range top.Entries {
		if netip.AddrFrom16(top.Entries[i].Address).Unmap().String() == address {
			return top.Entries[i].Estimate()
		}
	}
	return 0
}

// A scan of the whole fleet, of which each host sees little, and a flood of one host
// that folds nearly all of it are named within two seconds, with about the right
// number, and are gone when a window has passed. What no flow list has is in samples.
func TestScanAndFloodAreNamed(t *testing.T) {
	const scanner, victim = "192.0.2.66", "20.0.0.7"
	r := rand.New(rand.NewPCG(1, 1))
	s, clock := newTestStore(nil)
	var hosts []*folding
	for i := range 16 {
		hosts = append(hosts, newFolding(t, fmt.Sprint("host-", i), 1))
		s.SetUp(hosts[i].name, true)
	}
	scanned := uint32(0)
	for half := range 2 * 90 { // seconds
		seconds := float64(half) / 2
		clock.at(seconds + 0.5)
		for i, h := range hosts {
			keys := ordinary(r, 100)
			if seconds >= 5 && seconds < 10 { // 1,600 a second, 100 a host
				for range 50 {
					scanned++
					keys = append(keys, flow.Key{Source: netip.MustParseAddr(scanner).As16(), Destination: ipv4(30<<24 | scanned), DestinationPort: 22})
				}
				if i == 7 {
					for range 30_000 {
						keys = append(keys, flow.Key{Source: ipv4(r.Uint32()), Destination: netip.MustParseAddr(victim).As16(), DestinationPort: 80})
					}
				}
			}
			h.send(t, s, clock.now, keys)
		}
		top := s.Peers()
		gotScan, gotFlood := peersOf(top.Sources, scanner), peersOf(top.Destinations, victim)
		switch {
		case len(top.Sources.Entries) > topPeers || len(top.Destinations.Entries) > topPeers:
			t.Fatalf("%d and %d entries", len(top.Sources.Entries), len(top.Destinations.Entries))
		case seconds < 5 && (gotScan > 0 || gotFlood > 500):
			t.Fatalf("after %v s %d and %d, before anything happened", seconds, gotScan, gotFlood)
		case seconds == 7 && (gotScan < 1000 || gotFlood < 50_000):
			t.Errorf("after 2 s of it the scanner has %d, the victim %d", gotScan, gotFlood)
		case seconds == 12:
			t.Logf("scanner %d of 8000, victim %d of 300000; %v", gotScan, gotFlood, top.SampleRatio)
			if far(gotScan, 8000, 0.2) || far(gotFlood, 300_000, 0.2) {
				t.Errorf("the scanner has %d, the victim %d; want 8000 and 300000", gotScan, gotFlood)
			}
		case seconds > 72 && (gotScan > 0 || gotFlood > 500):
			t.Fatalf("after %v s %d and %d", seconds, gotScan, gotFlood)
		}
	}
}

// far says that a number is farther from another than a share of it.
func far(got, want uint64, share float64) bool {
	d := float64(got) - float64(want)
	return d*d > share*share*float64(want)*float64(want)
}

// Samples under another key have nothing in common with the fleet's.
func TestPeersOfAnotherKey(t *testing.T) {
	s, clock := newTestStore(nil)
	clock.at(1)
	a, b := newFolding(t, "a", 1), newFolding(t, "b", 2)
	a.send(t, s, clock.now, []flow.Key{key("10.0.0.1", "10.0.0.2", 1)})
	b.send(t, s, clock.now, []flow.Key{key("10.0.0.3", "10.0.0.4", 1)})
	clock.at(3)
	if top := s.Peers(); peersOf(top.Sources, "10.0.0.1") != 1 || peersOf(top.Sources, "10.0.0.3") != 0 {
		t.Errorf("%+v", top)
	}
	if s.RefusedSketches()["b"] == 0 {
		t.Error("nothing of b was refused")
	}
}
