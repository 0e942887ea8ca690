package window

import (
	"math/rand/v2"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

func table(t *testing.T, texts ...string) *networks.Table {
	t.Helper()
	list := make([]networks.Network, len(texts))
	for i, text := range texts {
		if err := list[i].Set(text); err != nil {
			t.Fatal(err)
		}
	}
	return networks.NewTable(list)
}

// What was folded counts for its network if the prefix tells which, and for others if
// not.
func TestNamedCountsFolded(t *testing.T) {
	topk := NewTopK(5, 2*epochLength)
	topk.Name(table(t, "10.0.0.0/8=corp", "198.51.0.0/16=far", "198.51.100.128/25=farther", "172.0.0.0/24=near"))
	e := testEpoch(1, testFlow(1, 7, 100), testFlow(2, 1<<8, 40))
	addMess(e) // 5000 bytes folded to 172.0.0.7/32, and to 198.51.100.0/24
	addWhole(topk, e)
	top := topk.Top()
	wantNamedSums(t, top, 5)
	name := func(s string) string { return s }
	wantTop(t, "sources", &top.Named.Sources, name, "corp 140")
	wantTop(t, "destinations", &top.Named.Destinations, name, "near 5100", "unnamed 40")
	wantTop(t, "pairs", &top.Named.Pairs, func(p NetworkPair) string { return p.Source + "-" + p.Destination },
		"corp-near 100", "corp-unnamed 40")
	if missed := top.Named.Sources.Missed; missed != 4500+5000 {
		t.Errorf("%d bytes may be missed of a source network, want those of the remainder and the prefix with two names", missed)
	}
}

func wantNamedSums(t *testing.T, top *Top, k int) {
	t.Helper()
	wantSum(t, "pairs", &top.Named.Pairs, k, top.Total)
	wantSum(t, "source networks", &top.Named.Sources, k, top.Total)
	wantSum(t, "destination networks", &top.Named.Destinations, k, top.Total)
	wantSum(t, "named services", &top.Named.Services, k, top.Total)
}

// Names come, change and go while traffic is counted, and the sums stay the totals.
func TestNamesChangeLive(t *testing.T) {
	topk, random := NewTopK(5, 5*epochLength), rand.New(rand.NewPCG(1, 1))
	tables := []*networks.Table{nil, table(t, "10.0.0.0/9=a", "172.0.0.0/9=b"), table(t, "::/0=six", "172.0.0.0/9=b", "10.0.0.0/12=c"), nil}
	for sequence := range uint64(40) {
		table := tables[sequence/10]
		topk.Name(table)
		e := testEpoch(sequence+1, mixedFlows(random, 500)...)
		addMess(e)
		addWhole(topk, e)
		top := topk.Top()
		wantSums(t, top, 5)
		if (top.Named == nil) != (table == nil) {
			t.Fatalf("epoch %d: names %v", sequence+1, top.Named)
		}
		if table == nil {
			continue
		}
		wantNamedSums(t, top, 5)
		if sequence%10 > 5 { // nothing is left of what was before
			wantDestinations(t, e, top, table)
		}
	}
}

// wantDestinations asserts that only networks have traffic to which the last epoch had
// some, too.
func wantDestinations(t *testing.T, e *epoch.Epoch, top *Top, names *networks.Table) {
	t.Helper()
	known := map[string]bool{}
	for i := range e.Flows {
		known[names.Name(names.Lookup(e.Flows[i].DestinationAddr()))] = true
	}
	for _, r := range top.Named.Destinations.Entries {
		if !known[r.Key] && r.Bytes > 0 {
			t.Errorf("epoch %d: %s has %d bytes, but nothing was sent to it", e.Sequence, r.Key, r.Bytes)
		}
	}
}
