package window

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// readFlood returns a record for each packet of a capture.
func readFlood(t *testing.T, c testutil.Capture) []fold.Record {
	t.Helper()
	seed := hashSeed{1, 2, 3, 4, 5}
	var records []fold.Record
	for _, p := range c.ReadPackets(t) {
		r := fold.Record{Key: p.Key, Point: 2, Count: epoch.Count{Packets: 1, Bytes: p.Bytes}}
		r.Hash = hashFlow(r.Key, &seed)
		records = append(records, r)
	}
	return records
}

// exported is the epoch of these records as an aggregator gets it, from an exporter
// with room for one flow in ten.
func exported(t *testing.T, records []fold.Record) *epoch.Epoch {
	t.Helper()
	flows := map[flow.Key]bool{}
	var total epoch.Count
	for i := range records {
		flows[records[i].Key] = true
		total.Add(records[i].Count)
	}
	ledger := fold.NewLedger(fold.LedgerConfig{Entries: len(flows) / 10, LadderEntries: 1024, SketchWidth: 1024, Points: 4})
	defer ledger.Free()
	halves := make([]fold.Half, len(records))
	ledger.AddBatch(halves, records)
	books := ledger.Close(0)
	if len(books.Flows) > len(flows)/10 {
		t.Fatalf("%d flows of %d have room", len(books.Flows), len(flows))
	}
	h := newTestHistory(1000)
	add(t, h, &epoch.Epoch{
		Host: "test", Sequence: 1, Start: start, End: start.Add(time.Second),
		Devices: []epoch.Device{{Name: "eth0", Total: total}},
		Flows:   books.Flows, Ladders: books.Ladders, Sketches: books.Sketches,
	})
	return decode(t, h.After(0, 1, 1))[0]
}

// heavyPrefixes is the definition (Cormode et al., "Finding hierarchical heavy
// hitters in data streams", 2003): the prefixes, in steps of a byte, whose bytes
// less those of their heavy descendants are at least phi of the total. What counts
// under a prefix is given without what counts under longer ones.
func heavyPrefixes(bytes map[netip.Prefix]uint64, phi float64) map[netip.Prefix]bool {
	var total uint64
	at := map[netip.Prefix]uint64{}
	for p, n := range bytes {
		at[p] += n
		total += n
	}
	heavy := map[netip.Prefix]bool{}
	for length := 32; length >= 0; length -= 8 {
		for p, n := range at {
			if p.Bits() != length {
				continue
			}
			if float64(n) >= phi*float64(total) {
				heavy[p] = true
			} else if length > 0 {
				at[parent(p)] += n
			}
		}
	}
	return heavy
}

func parent(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), p.Bits()-8).Masked() }

// exactBytes is what was sent, by address.
func exactBytes(records []fold.Record, d flow.Dimension) map[netip.Prefix]uint64 {
	all := map[netip.Prefix]uint64{}
	for i := range records {
		all[netip.PrefixFrom(records[i].Addr(d), 32)] += records[i].Bytes
	}
	return all
}

// exportedBytes is what an epoch says.
func exportedBytes(e *epoch.Epoch, d flow.Dimension) map[netip.Prefix]uint64 {
	all := map[netip.Prefix]uint64{}
	for i := range e.Flows {
		all[netip.PrefixFrom(e.Flows[i].Addr(d), 32)] += e.Flows[i].Bytes
	}
	for i := range e.Ladders {
		if e.Ladders[i].Dimension == d {
			for _, p := range e.Ladders[i].Entries {
				all[p.Prefix] += p.Bytes
			}
		}
	}
	return all
}

// With room for a tenth of a flood's flows, the heavy prefixes that an exporter
// sends are those of the flood, and the truth is in their intervals.
func TestHeavyPrefixesOfFloods(t *testing.T) {
	for _, flood := range testutil.Floods {
		records := readFlood(t, flood)
		shuffled := slices.Clone(records)
		rand.New(rand.NewPCG(3, 3)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for order, records := range map[string][]fold.Record{"in order": records, "shuffled": shuffled} {
			e := exported(t, records)
			for _, d := range flow.Dimensions {
				exact, got := exactBytes(records, d), exportedBytes(e, d)
				for phi, want := range map[float64]float64{0.05: 0.99, 0.01: 0.99, 0.003: 0.95} {
					what := fmt.Sprintf("%s, %s, %s, phi %v", flood.Name, order, d, phi)
					compareHeavy(t, what, heavyPrefixes(exact, phi), heavyPrefixes(got, phi), want)
				}
				checkIntervals(t, e, exact, d)
			}
		}
	}
}

func compareHeavy(t *testing.T, what string, exact, got map[netip.Prefix]bool, want float64) {
	t.Helper()
	both := 0.0
	for p := range got {
		if exact[p] {
			both++
		}
	}
	recall, precision := both/float64(len(exact)), both/float64(len(got))
	t.Logf("%s: %d heavy, recall %.3f, precision %.3f", what, len(exact), recall, precision)
	if !(recall >= want && precision >= want) { // nor if there is none
		t.Errorf("%s: recall %.3f, precision %.3f, want %.2f", what, recall, precision, want)
	}
}

// checkIntervals asserts that what was sent is in the interval of each prefix that
// an epoch has an entry for, and of a sample of the addresses.
func checkIntervals(t *testing.T, e *epoch.Epoch, exact map[netip.Prefix]uint64, d flow.Dimension) {
	t.Helper()
	sums := map[netip.Prefix]uint64{}
	for address, n := range exact {
		for p := address; ; p = parent(p) {
			sums[p] += n
			if p.Bits() == 0 {
				break
			}
		}
	}
	i := 0
	for p, n := range sums {
		if i++; p.Bits() > 16 && i%200 != 0 {
			continue // each takes a look at everything
		}
		if interval := e.PrefixInterval(d, p); !interval.Contains(n) {
			t.Errorf("%s %v: %d bytes, not in %v", d, p, n, interval)
		}
	}
}
