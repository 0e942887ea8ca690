package window

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// host is a ledger with room for so many flows and what is told of its peers.
type host struct {
	ledger *fold.Ledger
	peers  *Peers
	end    time.Time
}

func newHost(t testing.TB, flows, k int) *host {
	h := &host{fold.NewLedger(fold.LedgerConfig{Entries: flows, LadderEntries: 64, SketchWidth: 64, Points: 8}), NewPeers(k), start}
	t.Cleanup(h.ledger.Free)
	return h
}

// see lets an epoch with these records pass.
func (h *host) see(records ...fold.Record) {
	h.ledger.AddBatch(make([]fold.Half, len(records)), records)
	books := h.ledger.Close(0)
	h.peers.Add(&epoch.Epoch{Start: h.end, End: h.end.Add(epochLength), Pairs: books.Pairs})
	h.end = h.end.Add(epochLength)
	h.ledger.Reset(0)
}

// seeSpread lets records pass over so many epochs.
func (h *host) seeSpread(records []fold.Record, epochs int) {
	for chunk := range slices.Chunk(records, (len(records)+epochs-1)/epochs) {
		h.see(chunk...)
	}
	h.see() // they are ranked every second
}

var recordSeed = hashSeed{1, 2, 3, 4, 5}

func record(source, destination [16]byte, port uint16) fold.Record {
	r := fold.Record{Point: 2, Count: epoch.Count{Packets: 1, Bytes: 60}}
	r.Source, r.Destination, r.SourcePort, r.DestinationPort, r.Protocol = source, destination, port, 443, flow.ProtocolTCP
	r.Hash = hashFlow(r.Key, &recordSeed)
	return r
}

// ordinary is flows of some thousand clients to some hundred servers.
func ordinary(r *rand.Rand, n int) []fold.Record {
	records := make([]fold.Record, n)
	for i := range records {
		records[i] = record(address(10, r.Uint32N(5000)), address(20, uint32(300*math.Pow(r.Float64(), 3))), uint16(r.Uint32()))
	}
	return records
}

// scan is one packet to each of so many addresses.
func scan(scanner [16]byte, n int) []fold.Record {
	records := make([]fold.Record, n)
	for i := range records {
		records[i] = record(scanner, address(172, uint32(i)), 40_000)
	}
	return records
}

// flood is one packet from each of so many random sources.
func flood(r *rand.Rand, victim [16]byte, n int) []fold.Record {
	records := make([]fold.Record, n)
	for i := range records {
		records[i] = record(address(byte(64+r.IntN(60)), r.Uint32()), victim, uint16(r.Uint32()))
	}
	return records
}

// exactPeers is the oracle.
func exactPeers(records []fold.Record, d flow.Dimension) map[[16]byte]int {
	peers, seen := map[[16]byte]int{}, map[[2][16]byte]bool{}
	for i := range records {
		k := &records[i].Key
		if pair := [2][16]byte{k.Source, k.Destination}; !seen[pair] {
			seen[pair] = true
			peers[pair[d]]++
		}
	}
	return peers
}

// wantFirst asserts who has the most peers, and how many within a fraction.
func wantFirst(t *testing.T, what string, r *pairs.Top, who [16]byte, peers int, tolerance float64) {
	t.Helper()
	if len(r.Entries) == 0 || r.Entries[0].Address != who {
		t.Errorf("%s: %x isn't first of %x", what, who, r.Entries)
		return
	}
	if got := float64(r.Entries[0].Estimate()); math.Abs(got/float64(peers)-1) > tolerance {
		t.Errorf("%s: %.0f peers, want %d", what, got, peers)
	}
}

// The victim of real floods is named with as many sources as there were, with room
// for one flow in ten, in any order.
func TestVictimsOfFloods(t *testing.T) {
	for name := range floods {
		records := readFlood(t, name)
		shuffled := slices.Clone(records)
		rand.New(rand.NewPCG(3, 3)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for order, records := range map[string][]fold.Record{"in order": records, "shuffled": shuffled} {
			h := newHost(t, len(records)/10, 20)
			h.seeSpread(records, 8)
			for victim, sources := range exactPeers(records, flow.Destination) {
				if sources > 100 {
					wantFirst(t, name+", "+order, &h.peers.Top().Destinations, victim, sources, 0.12)
				}
			}
		}
	}
}

// A scan of few packets is found in traffic that is a hundred times as much and
// folds, and in a flood on top.
func TestScannerIsNamed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	scanner, victim := address(10, 77<<16), address(20, 99<<16)
	for _, test := range []struct {
		what  string
		flood int
	}{{"ordinary traffic", 0}, {"a flood", 400_000}} {
		attack := flood(r, victim, test.flood)
		records := append(ordinary(r, 200_000), append(scan(scanner, 3000), attack...)...)
		r.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		h := newHost(t, 10_000, 20)
		h.seeSpread(records, 10)
		wantFirst(t, test.what, &h.peers.Top().Sources, scanner, 3000, 0.3)
		if test.flood > 0 {
			wantFirst(t, test.what, &h.peers.Top().Destinations, victim, exactPeers(attack, flow.Destination)[victim], 0.12)
		}
	}
}

// A flow that passes several points of the host, and comes again in every epoch, is
// one pair.
func TestPairsCountOnce(t *testing.T) {
	h := newHost(t, 10_000, 20)
	scanner := address(10, 1)
	for range 20 {
		records := scan(scanner, 500)
		for i := range scan(scanner, 500) {
			again := records[i]
			again.Point = 4
			otherPort := record(records[i].Source, records[i].Destination, 1234)
			records = append(records, again, otherPort)
		}
		h.see(records...)
	}
	wantFirst(t, "seen twice", &h.peers.Top().Sources, scanner, 500, 0)
}

// An attack shows within a second, and is gone a minute after it ended.
func TestAttackShowsAndClears(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	h := newHost(t, 20_000, 20)
	victim := address(20, 99<<16)
	peersOf := func() uint64 {
		for _, e := range h.peers.Top().Destinations.Entries {
			if e.Address == victim {
				return e.Estimate()
			}
		}
		return 0
	}
	h.seeSpread(ordinary(r, 100_000), 20)
	if got := peersOf(); got != 0 {
		t.Fatalf("%d sources before the flood", got)
	}
	h.seeSpread(flood(r, victim, 20_000), 2)
	if got := peersOf(); math.Abs(float64(got)-20_000) > 0.15*20_000 {
		t.Errorf("%d sources after a second, want about 20,000", got)
	}
	h.seeSpread(flood(r, victim, 200_000), 20)
	h.seeSpread(ordinary(r, 100_000), 116)
	if got := peersOf(); got < 15_000 {
		t.Errorf("%d sources 58 s after the flood's end, want those of its last second", got)
	}
	h.seeSpread(ordinary(r, 10_000), 6)
	if got := peersOf(); got != 0 {
		t.Errorf("%d sources 61 s after the flood's end", got)
	}
}

// Whatever comes, there are k entries at most; and under traffic that doesn't change
// they don't either, though thousands of addresses have equally many peers.
func TestPeersDontChurn(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	h := newHost(t, 50_000, 20)
	var admitted uint64
	for epoch := range 480 {
		h.see(append(ordinary(r, 5000), scan(address(10, 1), 1000)...)...)
		top := h.peers.Top()
		for _, ranking := range []*pairs.Top{&top.Sources, &top.Destinations} {
			if len(ranking.Entries) > 20 {
				t.Fatalf("%d entries", len(ranking.Entries))
			}
		}
		if epoch == 159 {
			admitted = top.Sources.Admissions + top.Destinations.Admissions
		}
	}
	top := h.peers.Top()
	// 160 s are 10 scrapes of 40 series, of which less than 1 % change on average: 1 to 5
	// in most runs, but the sample's seed is another one each time.
	changed := top.Sources.Admissions + top.Destinations.Admissions - admitted
	t.Logf("%d changes; %v", changed, top.SampleRatio)
	if changed > 16 {
		t.Errorf("%d of 40 entries changed in 160 s", changed)
	}
}

func BenchmarkPeers(b *testing.B) {
	for _, flows := range []int{10_000, 250_000} {
		b.Run(fmt.Sprint(flows), func(b *testing.B) {
			h := newHost(b, 300_000, 20)
			r := rand.New(rand.NewPCG(1, 1))
			records := ordinary(r, flows)
			for b.Loop() {
				h.see(records...)
			}
		})
	}
}
