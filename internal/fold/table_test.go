package fold

import (
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// What a host counts while no exporter runs may be more than an entry holds.
func TestCountsOfAnySize(t *testing.T) {
	for _, c := range []epoch.Count{
		{Packets: elsewhere - 1, Bytes: maxBytes},
		{Packets: elsewhere, Bytes: 60},
		{Packets: 1, Bytes: maxBytes + 1},
		{Packets: 1 << 40, Bytes: 1 << 50},
	} {
		l := NewLedger(LedgerConfig{Entries: tableWays, LadderEntries: 1, SketchWidth: 1, Points: 1})
		var want [2]epoch.Count
		for i := range 3 {
			for h := range want {
				l.Add(Half(h), &Record{Key: flow.Key{SourcePort: 1}, Hash: 1, Count: c})
				if want[h].Add(c); i == 2 {
					got := l.Close(Half(h)).Flows
					if len(got) != 1 || got[0].Count != want[h] {
						t.Errorf("%v thrice: flows %v, want %v", c, got, want[h])
					}
				}
			}
		}
		if len(l.table.large) != 0 {
			t.Errorf("%v are left", l.table.large)
		}
	}
}

// A flow without room folds with all of it.
func TestLargeCountsFold(t *testing.T) {
	l := NewLedger(LedgerConfig{Entries: tableWays, LadderEntries: 100, SketchWidth: 1, Points: 1})
	for port := range uint16(2 * tableWays) {
		key := flow.Key{SourcePort: port}
		l.Add(0, &Record{Key: key, Hash: 1 + uint64(port), Count: epoch.Count{Packets: 1 << 33, Bytes: 1 << 45}})
	}
	var sum epoch.Count
	books := l.Close(0)
	for i := range books.Flows {
		sum.Add(books.Flows[i].Count)
	}
	sum.Add(sumOf(books.Ladders, flow.Source))
	if want := (epoch.Count{Packets: 2 * tableWays << 33, Bytes: 2 * tableWays << 45}); sum != want {
		t.Errorf("%v, want %v", sum, want)
	}
}

func TestEntryIsACacheLine(t *testing.T) {
	if entryBytes != 64+64/tableWays {
		t.Errorf("an entry takes %d bytes", entryBytes)
	}
}
