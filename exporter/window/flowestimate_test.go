package window

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/sketch/cms"
)

// sentFlows is what an exporter kept of some epochs, and the truth.
type sentFlows struct {
	history *History
	sketch  *FlowSketch
	exact   []map[flow.Key]uint64 // by epoch
}

// send captures records with a table of so many entries, of which kept go out, in
// epochs of equal numbers of records. A share of the records is lost.
func send(t *testing.T, records []fold.Record, entries, kept, epochs int, lost float64) *sentFlows {
	t.Helper()
	r := rand.New(rand.NewPCG(4, 4))
	l := fold.NewLedger(fold.LedgerConfig{Entries: entries, LadderEntries: 64, SketchWidth: 128, Points: 4})
	defer l.Free()
	h := newTestHistory(kept)
	s := &sentFlows{history: h, sketch: NewFlowSketch(h, time.Duration(epochs)*epochLength/3)}
	for part := range slices.Chunk(records, (len(records)+epochs-1)/epochs) {
		e := testEpoch(uint64(len(s.exact) + 1))
		exact, device := map[flow.Key]uint64{}, &e.Devices[0]
		for i := range part {
			exact[part[i].Key] += part[i].Bytes
			device.Total.Add(part[i].Count)
			if r.Float64() < lost {
				device.Remainder.Add(part[i].Count)
			} else {
				l.Add(0, &part[i])
			}
		}
		b := l.Close(0)
		e.Flows, e.Ladders, e.Sketches, e.FoldedFlows = b.Flows, b.Ladders, b.Sketches, b.Folded
		add(t, s.history, e)
		s.sketch.Add(e)
		s.exact = append(s.exact, exact)
		l.Reset(0)
	}
	return s
}

// truth is the bytes of a flow in the last epochs.
func (s *sentFlows) truth(key flow.Key, epochs int) (sum uint64) {
	for _, exact := range s.exact[max(0, len(s.exact)-epochs):] {
		sum += exact[key]
	}
	return sum
}

func (s *sentFlows) estimate(t *testing.T, epochs int, keys ...flow.Key) FlowEstimates {
	t.Helper()
	f, err := s.sketch.Estimate(t.Context(), keys, time.Duration(epochs)*epochLength)
	if err != nil {
		t.Fatal(err)
	}
	if f.Epochs != epochs || f.To.Sub(f.From) != time.Duration(epochs)*epochLength {
		t.Fatalf("%d epochs from %v to %v, want %d", f.Epochs, f.From, f.To, epochs)
	}
	return f
}

// keys are those of all flows.
func (s *sentFlows) keys() []flow.Key {
	all := map[flow.Key]bool{}
	for _, exact := range s.exact {
		for key := range exact {
			all[key] = true
		}
	}
	return slices.Collect(maps.Keys(all))
}

func (s *sentFlows) checkIntervals(t *testing.T, epochs int, keys []flow.Key) {
	t.Helper()
	f := s.estimate(t, epochs, keys...)
	for i, key := range keys {
		if truth := s.truth(key, epochs); !f.Interval(i).Contains(truth) {
			t.Fatalf("%v over %d epochs: %d bytes, not in %v", key, epochs, truth, f.Interval(i))
		}
	}
}

// zipfRecords are the packets of so many flows of both families, the largest first.
func zipfRecords(flows int) (records []fold.Record) {
	r := rand.New(rand.NewPCG(uint64(flows), 3))
	keys := map[flow.Key]bool{}
	seed := hashSeed{1, 2, 3, 4, 5}
	for n, f := range mixedFlows(r, flows) {
		f.SourcePort = uint16(n)
		keys[f.Key] = true
		for range 1 + flows/(5*(n+1)) {
			records = append(records, fold.Record{
				Key: f.Key, Point: 2, Hash: hashFlow(f.Key, &seed), Count: epoch.Count{Packets: 1, Bytes: 60 + r.Uint64N(1400)},
			})
		}
	}
	if len(keys) != flows {
		panic("flows share a key")
	}
	return records
}

var recordOrders = map[string]func([]fold.Record){
	"elephants first": func([]fold.Record) {},
	"mice first":      slices.Reverse[[]fold.Record],
	"shuffled": func(all []fold.Record) {
		rand.New(rand.NewPCG(8, 8)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	},
}

// With room for a tenth of the flows, half of which go out, the truth is in the
// interval of every flow, over one epoch and over many, and of flows that never were.
func TestFlowIsInItsInterval(t *testing.T) {
	const flows, epochs = 1500, 6
	for name, order := range recordOrders {
		for _, lost := range []float64{0, 0.02} {
			t.Run(fmt.Sprintf("%s, %v lost", name, lost), func(t *testing.T) {
				records := zipfRecords(flows)
				order(records)
				s := send(t, records, flows/10, flows/20, epochs, lost)
				keys := s.keys()
				for _, key := range keys {
					key.DestinationPort++ // no such flow, but one between the same addresses
					keys = append(keys, key)
				}
				if len(keys) != 2*flows {
					t.Fatalf("%d keys", len(keys))
				}
				for _, window := range []int{1, epochs} {
					s.checkIntervals(t, window, keys)
				}
			})
		}
	}
}

// Intervals aren't just wide enough. Where every flow has its place in the table, those
// that go out each time are exact, and what isn't sent is known but for what e divided
// by the columns says.
func TestFlowIsKnownWell(t *testing.T) {
	const epochs, elephants, mice = 6, 20, 3000
	r := rand.New(rand.NewPCG(5, 5))
	seed := hashSeed{1, 2, 3, 4, 5}
	var records []fold.Record
	for range epochs {
		for n, f := range mixedFlows(rand.New(rand.NewPCG(9, 9)), elephants+mice) {
			f.SourcePort = uint16(n)
			bytes := 100 + r.Uint64N(1000)
			if n < elephants {
				bytes = 1_000_000 + r.Uint64N(1_000_000)
			}
			records = append(records, fold.Record{Key: f.Key, Point: 2, Hash: hashFlow(f.Key, &seed), Count: epoch.Count{Packets: 1, Bytes: bytes}})
		}
	}
	s := send(t, records, 100_000, elephants, epochs, 0)
	var beyond, all int
	keys := s.keys()
	f := s.estimate(t, epochs, keys...)
	for i, key := range keys {
		truth := s.truth(key, epochs)
		switch {
		case truth > 1_000_000:
			if f.Interval(i) != (epoch.Interval{Lower: truth, Upper: truth}) {
				t.Errorf("an elephant of %d bytes in %v", truth, f.Interval(i))
			}
		case !f.Interval(i).Contains(truth):
			t.Errorf("a mouse of %d bytes in %v", truth, f.Interval(i))
		default:
			all++
			if f.Flows[i].Uncounted > truth+epochs*mice*600*272/100/flowPaneColumns {
				beyond++
			}
		}
	}
	if all != mice || beyond*50 > all {
		t.Errorf("%d of %d mice are known less well than stated", beyond, all)
	}
}

// What isn't in the sketch, because another run made the epochs, has the bound of the
// prefixes.
func TestFlowWithoutSketch(t *testing.T) {
	records := zipfRecords(1000)
	s := send(t, records, 100, 50, 3, 0)
	s.sketch = NewFlowSketch(s.history, time.Minute)
	s.checkIntervals(t, 3, s.keys())
}

func TestEstimateEnds(t *testing.T) {
	h := newTestHistory(10)
	s := NewFlowSketch(h, time.Minute)
	keys := []flow.Key{testFlow(1, 1, 1).Key}
	if f, err := s.Estimate(t.Context(), keys, time.Minute); err != nil || f.Epochs != 0 || f.Interval(0) != (epoch.Interval{}) {
		t.Errorf("before the first epoch: %+v, %v", f, err)
	}
	add(t, h, testEpoch(1, testFlow(1, 1, 1)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Estimate(ctx, keys, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("with a client that is gone: %v", err)
	}
}

// A FlowSketch takes no memory where every flow goes out, and 3.25 MiB elsewhere.
func TestFlowSketchMemory(t *testing.T) {
	h := newTestHistory(10)
	s := NewFlowSketch(h, time.Minute)
	for sequence := range uint64(2000) {
		e := testEpoch(sequence+1, testFlow(1, 1, 1))
		if sequence >= 1000 {
			e = testEpoch(sequence+1, mixedFlows(rand.New(rand.NewPCG(1, 1)), 20)...)
		}
		add(t, h, e)
		s.Add(e)
		bytes, panes := 0, 0
		if s.sketch != nil {
			bytes = cms.CellBytes * s.sketch.Width()
		}
		for i := range s.panes {
			if p := &s.panes[i]; p.sketch != nil {
				panes++
				bytes += cms.PackedCellBytes * p.sketch.Width()
			}
		}
		if sequence < 1000 && panes != 0 || sequence == 1999 && panes != flowPanes || bytes > 13<<18 {
			t.Fatalf("epoch %d: %d panes of %d bytes", sequence, panes, bytes)
		}
	}
	// They reach back for a minute.
	if first := slices.MinFunc(s.bounds(&flow.Key{}), func(a, b flowBounds) int { return int(a.first) - int(b.first) }).first; first > 2000-120 {
		t.Errorf("reaches back to epoch %d", first)
	}
}

func BenchmarkFlowSketchAdd(b *testing.B) {
	e := testEpoch(1, mixedFlows(rand.New(rand.NewPCG(1, 1)), 83_000)...)
	h := newTestHistory(1000)
	s := NewFlowSketch(h, 2*time.Minute)
	if err := h.Add(e); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s.Add(e)
	}
}

func BenchmarkFlowSketchEstimate(b *testing.B) {
	h := newTestHistory(1000)
	s := NewFlowSketch(h, 2*time.Minute)
	for sequence := range uint64(30) {
		e := testEpoch(sequence+1, mixedFlows(rand.New(rand.NewPCG(1, sequence)), 83_000)...)
		if err := h.Add(e); err != nil {
			b.Fatal(err)
		}
		s.Add(e)
	}
	keys := []flow.Key{testFlow(1, 1, 1).Key}
	for b.Loop() {
		if _, err := s.Estimate(b.Context(), keys, 15*time.Second); err != nil {
			b.Fatal(err)
		}
	}
}
