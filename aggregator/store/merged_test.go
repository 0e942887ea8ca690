package store

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// aggregators are three levels above exporters, and one that has them all.
type aggregators struct {
	clock  *clock
	flat   *Store
	levels [][]*Store             // from the exporters up
	handed map[*Store]epoch.Count // as counted, to those above
}

func newAggregators(widths ...int) *aggregators {
	a := &aggregators{handed: make(map[*Store]epoch.Count)}
	a.flat, a.clock = newTestStore(nil)
	configuration := DefaultConfiguration()
	configuration.MergedAfter = 3 * time.Second
	for _, width := range widths {
		var level []*Store
		for range width {
			level = append(level, New(configuration, a.clock.read))
		}
		a.levels = append(a.levels, level)
	}
	return a
}

func (a *aggregators) top() *Store { return a.levels[len(a.levels)-1][0] }

// scrape hands on what aggregators have to those above, over the wire.
func (a *aggregators) scrape(t *testing.T) {
	t.Helper()
	for i, level := range a.levels[:len(a.levels)-1] {
		above := a.levels[i+1]
		for n, child := range level {
			name, parent := fmt.Sprintf("level-%d-%d", i, n), above[n%len(above)]
			parent.SetUp(name, true)
			for _, e := range child.Merged() {
				handed := a.handed[child]
				handed.Add(e.Devices[0].Total)
				a.handed[child] = handed
				if err := parent.Append(name, overWire(t, e)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func overWire(t *testing.T, e *epoch.Epoch) *epoch.Epoch {
	t.Helper()
	encoded, err := epoch.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := epoch.DecodeBatch(epoch.EncodeBatch([16]byte{1}, 1, 1, [][]byte{encoded}))
	if err != nil {
		t.Fatal(err)
	}
	return batch.Epochs[0]
}

// run delivers what exporters have, by number of the exporter, until all is at the top.
func (a *aggregators) run(t *testing.T, deliveries []delivery, shard map[string]int) {
	t.Helper()
	a.clock.now = t0.Add(-before)
	for end := t0.Add(40 * time.Second); a.clock.now.Before(end); a.clock.now = a.clock.now.Add(250 * time.Millisecond) {
		for ; len(deliveries) > 0 && !deliveries[0].at.After(a.clock.now); deliveries = deliveries[1:] {
			d := deliveries[0]
			for _, s := range []*Store{a.flat, a.levels[0][shard[d.name]%len(a.levels[0])]} {
				s.SetUp(d.name, d.up)
				if d.Epoch == nil {
					continue
				}
				conserve(d.Epoch)
				if err := s.Append(d.name, d.Epoch); err != nil {
					t.Fatal(err)
				}
			}
		}
		a.scrape(t)
	}
}

// conserve gives an epoch the device that saw all of it.
func conserve(e *epoch.Epoch) {
	e.Devices = nil
	total := epoch.Count{}
	total.Sub(e.Unaccounted(flow.Source))
	e.Devices = []epoch.Device{{Name: "eth0", Total: total}}
}

// before is how long before the first packet exporters that live long start: each
// level of aggregators relies on them a second later.
const before = 8 * time.Second

// twelve is a fleet of hosts that live or die, numbered.
func twelve(r *rand.Rand, mortal bool) (*mortals, map[string]int) {
	f := &mortals{truth: make(map[flow.Key]epoch.Count), undecided: make(map[flow.Key]bool)}
	shard := map[string]int{}
	for n := range 12 {
		name, networks := fmt.Sprint("router-", n), []string{fmt.Sprintf("10.9.0.%d/32", n)}
		if n > 1 {
			name, networks = fmt.Sprint("host-", n-2), []string{fmt.Sprintf("10.0.0.%d/32", n-2), fmt.Sprintf("10.1.%d.0/24", n-2)}
		}
		h := newMortal(r, name, networks...)
		if !mortal {
			h.lives, h.epochs = []run{{from: t0.Add(-before), to: t0.Add(30 * time.Second)}}, nil
			h.epochs = append(h.epochs, h.live(h.lives[0]))
		}
		f.hosts, shard[name] = append(f.hosts, h), n
	}
	return f, shard
}

// sketched gives each epoch a sketch of its flows.
func (f *mortals) sketched() {
	for _, h := range f.hosts {
		for _, e := range slices.Concat(h.epochs...) {
			r := rand.New(rand.NewPCG(e.Sequence, uint64(len(e.Flows))))
			e.Sketches = []epoch.Sketch{sketchOf(r, 7, len(e.Flows))}
		}
	}
}

// Three levels of aggregators have the tree, the flows, the totals and the distinct
// counts of one, where nothing folds and nobody dies.
func TestThreeLevelsAreOne(t *testing.T) {
	for i := range 3 {
		r := rand.New(rand.NewPCG(uint64(i), 21))
		f, shard := twelve(r, false)
		for range 2000 {
			f.send(r)
		}
		f.sketched()
		a := newAggregators(4, 2, 1)
		a.run(t, f.deliveries(r), shard)
		want, got := a.flat.Last(5*time.Minute), a.top().Last(5*time.Minute)
		if total := f.total(); got.Counted != want.Counted || got.Counted != total || got.Uncertain.Bytes+got.Remainder.Bytes != 0 {
			t.Errorf("%v sent, at one level %v, at three %v and %d uncertain", total, want.Counted, got.Counted, got.Uncertain.Bytes+got.Remainder.Bytes)
		}
		for _, d := range flow.Dimensions {
			if one, three := want.Tree(d).View(0), got.Tree(d).View(0); !reflect.DeepEqual(one, three) {
				t.Errorf("the trees by %s differ:\n%+v\n%+v", d, one, three)
			}
		}
		if one, three := want.TopFlows(1<<20), got.TopFlows(1<<20); !slices.Equal(one, three) {
			t.Error("the flows differ")
		}
		if one, three := want.Distinct(), got.Distinct(); !reflect.DeepEqual(one, three) || one[epoch.OfFlows] == 0 {
			t.Errorf("distinct %v, at three levels %v", one, three)
		}
		if one, three := a.flat.Totals(), a.top().Totals(); !reflect.DeepEqual(one, three) {
			t.Errorf("totals %v, at three levels %v", one, three)
		}
	}
}

// Where exporters fold, start and die, the truth is in all intervals at the top.
func TestThreeLevelsHoldTheTruth(t *testing.T) {
	fleet := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for i := range 12 {
		r := rand.New(rand.NewPCG(uint64(i), 22))
		f, shard := twelve(r, i%2 == 0)
		for range 600 {
			f.send(r)
		}
		for _, h := range f.hosts {
			for _, e := range slices.Concat(h.epochs...) {
				if i%4 > 0 {
					forget(r, e, fleet)
				}
			}
		}
		a := newAggregators(4, 2, 1)
		a.run(t, f.deliveries(r), shard)
		f.checkIntervals(t, a.top())
		for _, child := range a.levels[0] {
			if got, want := a.handed[child], child.Last(5*time.Minute).Counted; i%2 == 1 && got != want {
				t.Errorf("%v handed on, %v counted", got, want)
			}
		}
		w := a.top().Last(5 * time.Minute)
		t.Logf("%v sent, %v counted, %d doubtful, %d uncertain; flat %v", f.total(), w.Counted, w.doubtful, w.Uncertain.Bytes+w.Remainder.Bytes, a.flat.Last(5*time.Minute).Counted)
	}
}

// A second is handed on as it came in, not as little as is kept of it here.
func TestHandedOnBeforeItFolds(t *testing.T) {
	s, clock := newTestStore(func(c *Configuration) { c.MaxFlows, c.MergedAfter = 4, 3*time.Second })
	a, truth := newHost("a", "10.0.0.1/32"), make(map[flow.Key]uint64)
	for port := range uint16(100) {
		k := key("10.0.0.1", "192.0.2.1", port)
		truth[k] = 1000 + uint64(port)
		a.sees(5.1, k, truth[k])
	}
	a.epoch(20)
	clock.at(9)
	deliver(t, rand.New(rand.NewPCG(1, 1)), s, a)
	clock.at(40)
	got := make(map[flow.Key]uint64)
	for _, e := range s.Merged() {
		for i := range e.Flows {
			got[e.Flows[i].Key] += e.Flows[i].Bytes
		}
	}
	if !reflect.DeepEqual(got, truth) {
		t.Errorf("%d flows were handed on, want %d", len(got), len(truth))
	}
	if kept := len(counts(s)); kept != 4 {
		t.Errorf("%d flows are kept, want 4", kept)
	}
}

func TestSummarize(t *testing.T) {
	var all []netip.Prefix
	for _, p := range []string{"10.0.0.3/32", "10.0.0.0/31", "10.0.0.2/32", "10.0.0.2/32", "10.0.0.5/32", "10.0.1.0/24", "10.0.1.7/32", "fe80::/128", "fe80::1/128", "0.0.0.0/1", "128.0.0.0/1"} {
		all = append(all, netip.MustParsePrefix(p))
	}
	if got, want := fmt.Sprint(summarize(all[:9])), "[10.0.0.0/30 10.0.0.5/32 10.0.1.0/24 fe80::/127]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := fmt.Sprint(summarize(all[9:])), "[0.0.0.0/1 128.0.0.0/1]"; got != want {
		t.Errorf("%s, want %s: a network of all addresses identifies nothing", got, want)
	}
}
