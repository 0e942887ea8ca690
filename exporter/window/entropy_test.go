package window

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
)

// entropies is what takes epochs.
type entropies struct {
	*Entropy
	cardinality *Cardinality
	ledger      *fold.Ledger
	end         time.Time
}

func newEntropies(t testing.TB, flows int) *entropies {
	ledger := fold.NewLedger(fold.LedgerConfig{
		Entries: flows, LadderEntries: 1024, SketchWidth: 64, Points: 8, Key: siphash.NewKey([16]byte{1}),
	})
	t.Cleanup(ledger.Free)
	return &entropies{NewEntropy(), NewCardinality(), ledger, start}
}

// see lets an epoch with these records pass.
func (y *entropies) see(records []fold.Record) (folded uint64) {
	y.ledger.AddBatch(make([]fold.Half, len(records)), records)
	books := y.ledger.Close(0)
	e := &epoch.Epoch{Start: y.end, End: y.end.Add(epochLength), Flows: books.Flows, Ladders: books.Ladders, Sketches: books.Sketches}
	y.cardinality.Add(e)
	y.Add(e)
	y.end = e.End
	y.ledger.Reset(0)
	return e.Folded(flow.Source).Packets
}

// ratio is what is told of a window.
func (y *entropies) ratio(t *testing.T, of string, window time.Duration) float64 {
	t.Helper()
	for _, r := range y.Ratios(y.cardinality.Estimates()) {
		if r.Of == of && r.Window == window {
			return r.Value
		}
	}
	t.Fatalf("no entropy of %s in %s", of, window)
	return 0
}

// exactEntropy is the oracle: the normalised entropy of the records' packets.
func exactEntropy(records []fold.Record, d flow.Dimension) float64 {
	packets, total := map[[16]byte]float64{}, 0.0
	for i := range records {
		n := float64(records[i].Packets)
		packets[records[i].Addr(d).As16()] += n
		total += n
	}
	if len(packets) < 2 {
		return 0
	}
	h := 0.0
	for _, n := range packets {
		h -= n / total * math.Log2(n/total)
	}
	return h / math.Log2(float64(len(packets)))
}

// With a table that is too small for a flood's flows the entropies are those of all
// its packets, in every window, and of ordinary traffic on the way.
func TestEntropyOfFoldedFlows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, test := range []struct {
		what    string
		records []fold.Record
		fold    bool
		want    float64
	}{
		{"ordinary", heavier(r, ordinary(r, 40_000)), false, 0.02},
		{"ordinary and a flood", append(heavier(r, ordinary(r, 20_000)), flood(r, address(20, 99<<16), 100_000)...), true, 0.03},
		{"a flood", flood(r, address(20, 99<<16), 100_000), true, 0.03},
		{"a scan", scan(address(10, 1), 50_000), true, 0.03},
	} {
		r.Shuffle(len(test.records), func(i, j int) {
			test.records[i], test.records[j] = test.records[j], test.records[i]
		})
		y := newEntropies(t, 20_000)
		if !test.fold {
			y = newEntropies(t, 100_000)
		}
		half := len(test.records) / 2
		folded := y.see(test.records[:half]) + y.see(test.records[half:])
		if (folded > uint64(half/2)) != test.fold {
			t.Errorf("%s: %d packets folded", test.what, folded)
		}
		for of, d := range dimensionOf {
			exact := exactEntropy(test.records, d)
			for _, window := range Cardinalities {
				if got := y.ratio(t, of, window); math.Abs(got-exact) > test.want {
					t.Errorf("%s, %s in %s: %.4f, want %.4f", test.what, of, window, got, exact)
				}
			}
			t.Logf("%s, %s: %.4f, want %.4f", test.what, of, y.ratio(t, of, time.Minute), exact)
		}
	}
}

// heavier gives records more packets, some many.
func heavier(r *rand.Rand, records []fold.Record) []fold.Record {
	for i := range records {
		records[i].Packets = 1 + uint64(math.Pow(r.Float64(), -0.7))
		records[i].Bytes = 100 * records[i].Packets
	}
	return records
}

// Real floods have the entropies that their packets have.
func TestEntropyOfFloods(t *testing.T) {
	for name := range floods {
		records := readFlood(t, name)
		y := newEntropies(t, len(records)/10)
		y.see(records)
		for of, d := range dimensionOf {
			got, exact := y.ratio(t, of, time.Minute), exactEntropy(records, d)
			t.Logf("%s, %s: %.4f, want %.4f", name, of, got, exact)
			if math.Abs(got-exact) > 0.03 {
				t.Errorf("%s, %s: %.4f, want %.4f", name, of, got, exact)
			}
		}
	}
}

// A window's entropy is that of the packets within its length, less at most a tenth
// of that.
func TestEntropySlides(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	y := newEntropies(t, 50_000)
	for range 10 {
		y.see(flood(r, address(20, 1), 2000))
	}
	quiet := func(epochs int) {
		for range epochs {
			y.see(scan(address(10, 1), 50)) // one source
		}
	}
	quiet(8)
	if got := y.ratio(t, epoch.OfSources, 10*time.Second); got < 0.9 {
		t.Errorf("entropy of sources is %.3f with a flood within 10 s", got)
	}
	quiet(12)
	if got := y.ratio(t, epoch.OfSources, 10*time.Second); got != 0 {
		t.Errorf("entropy of sources is %.3f, want 0 after the flood", got)
	}
	if got := y.ratio(t, epoch.OfSources, time.Minute); got < 0.8 {
		t.Errorf("entropy of sources in a minute is %.3f", got)
	}
}

func BenchmarkEntropy(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	e, c, y := testEpoch(1, mixedFlows(r, 83_000)...), NewCardinality(), NewEntropy()
	for _, of := range []string{epoch.OfSources, epoch.OfDestinations} {
		e.Sketches = append(e.Sketches, epoch.Sketch{Of: of, HLL: sketchOf(0, 80_000)})
	}
	c.Add(e)
	b.Run("add 83000 flows", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			y.Add(e)
		}
	})
	b.Run("ratios", func(b *testing.B) {
		distinct := c.Estimates()
		for b.Loop() {
			y.Ratios(distinct)
		}
	})
}
