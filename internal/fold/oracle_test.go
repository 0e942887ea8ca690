package fold

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// slowLedger is the ledger's rule for flows that one point sees, without lines,
// tags or batches: who goes is found by looking at everybody.
type slowLedger struct {
	sets   [][tableWays]slowEntry
	closed uint32
	folded [2]map[flow.Key]epoch.Count
}

type slowEntry struct {
	key    flow.Key
	counts [2]epoch.Count
	last   uint32
	used   bool
}

// standing orders entries by who goes first.
func (e *slowEntry) standing() float64 {
	switch bytes := e.counts[0].Bytes + e.counts[1].Bytes; {
	case !e.used:
		return -2
	case e.counts == [2]epoch.Count{}:
		return -1 / float64(1+e.last)
	default:
		return float64(min(bytes, math.MaxInt32))
	}
}

func (s *slowLedger) add(set int, h Half, r *Record) {
	entries := &s.sets[set]
	first := &entries[0]
	for i := range entries {
		e := &entries[i]
		if e.used && e.key == r.Key {
			e.counts[h].Add(r.Count)
			return
		}
		if e.standing() < first.standing() {
			first = e
		}
	}
	for h := range first.counts {
		if c := first.counts[h]; c != (epoch.Count{}) {
			sum := s.folded[h][first.key]
			sum.Add(c)
			s.folded[h][first.key] = sum
		}
	}
	*first = slowEntry{key: r.Key, last: s.closed, used: true}
	first.counts[h] = r.Count
}

// close returns the flows of a half, and what of it was folded.
func (s *slowLedger) close(h Half) (flows, folded map[flow.Key]epoch.Count) {
	s.closed++
	flows = map[flow.Key]epoch.Count{}
	for i := range s.sets {
		for j := range s.sets[i] {
			if e := &s.sets[i][j]; e.counts[h] != (epoch.Count{}) {
				flows[e.key] = e.counts[h]
				e.counts[h], e.last = epoch.Count{}, s.closed
			}
		}
	}
	folded, s.folded[h] = s.folded[h], map[flow.Key]epoch.Count{}
	return flows, folded
}

// Random records in both halves, in batches of random lengths, over many epochs:
// the ledger keeps and folds the flows that the oracle does, sizes beyond what a
// line can tell apart included, and its errors hold what was folded.
func TestLedgerIsTheOracles(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 9))
		l := NewLedger(LedgerConfig{Entries: tableWays * (1 + r.IntN(40)), LadderEntries: 1 << 12, SketchWidth: 64, Points: 4})
		slow := &slowLedger{sets: make([][tableWays]slowEntry, len(l.table.lines)), folded: [2]map[flow.Key]epoch.Count{{}, {}}}
		flows := 1 + r.Uint64N(1000)
		for h := Half(0); slow.closed < 12; h = 1 - h {
			for range r.IntN(40) {
				records, halves := make([]Record, r.IntN(100)), make([]Half, 100)
				for i := range records {
					n := r.Uint64N(flows)
					records[i] = Record{Key: mixedKey(n), Point: 2, Hash: (n + 1) * 0x9e3779b97f4a7c15, Count: epoch.Count{Packets: 1, Bytes: r.Uint64N(1 << r.IntN(34))}}
					if halves[i] = h; r.IntN(10) == 0 {
						halves[i] = 1 - h
					}
					slow.add(l.table.find(records[i].Hash), halves[i], &records[i])
				}
				l.AddBatch(halves[:len(records)], records)
			}
			b := l.Close(h)
			compareBooks(t, &b, slow, h)
			l.Reset(h)
		}
	}
}

func compareBooks(t *testing.T, b *Books, slow *slowLedger, h Half) {
	t.Helper()
	flows, folded := slow.close(h)
	if len(b.Flows) != len(flows) {
		t.Fatalf("%d flows, want %d", len(b.Flows), len(flows))
	}
	for i := range b.Flows {
		f := &b.Flows[i]
		if f.Count != flows[f.Key] {
			t.Fatalf("flow %v counts %v, want %v", f.Key, f.Count, flows[f.Key])
		}
		if f.Error < folded[f.Key].Bytes {
			t.Fatalf("flow %v has an error of %d, but %d bytes were folded", f.Key, f.Error, folded[f.Key].Bytes)
		}
	}
	// The ladders have room for every address.
	want := map[snapshotKey]epoch.Count{}
	for key, c := range folded {
		for _, d := range flow.Dimensions {
			p, err := key.Addr(d).Prefix(key.Addr(d).BitLen())
			if err != nil {
				panic(err)
			}
			sum := want[snapshotKey{0, d, p}]
			sum.Add(c)
			want[snapshotKey{0, d, p}] = sum
		}
	}
	got := snapshotOf(b.Ladders)
	for key, c := range want {
		if got[key] != c {
			t.Fatalf("%v folded into %v, want %v", got[key], key, c)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("folded into %d prefixes, want %d", len(got), len(want))
	}
}
