package window

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// wantSum asserts that entries and other are the total exactly, and not too many.
func wantSum[K comparable](t *testing.T, what string, r *Ranking[K], k int, total epoch.Count) {
	t.Helper()
	if len(r.Entries) > k {
		t.Errorf("%s: %d entries, want at most %d", what, len(r.Entries), k)
	}
	sum := r.Other
	for i, e := range r.Entries {
		sum.Add(e.Count)
		if i > 0 && e.Bytes > r.Entries[i-1].Bytes {
			t.Errorf("%s: entry %d is larger than the one before", what, i)
		}
	}
	if sum != total {
		t.Errorf("%s: the sum is %v, want %v", what, sum, total)
	}
	if r.Other.Bytes > total.Bytes || r.Other.Packets > total.Packets {
		t.Errorf("%s: other %v wrapped around", what, r.Other)
	}
}

func wantSums(t *testing.T, top *Top, k int) {
	t.Helper()
	wantSum(t, "flows", &top.Flows, k, top.Total)
	wantSum(t, "sources", &top.Sources, k, top.Total)
	wantSum(t, "destinations", &top.Destinations, k, top.Total)
	wantSum(t, "services", &top.Services, k, top.Total)
}

// Sums hold at every step, with more keys than there is room for, and the window
// holds its epochs and no others.
func TestTopKSums(t *testing.T) {
	const k = 20
	random := rand.New(rand.NewPCG(5, 6))
	topk := NewTopK(k, 5*epochLength)
	var counted []epoch.Count
	for sequence := range uint64(20) {
		e := testEpoch(sequence+1, mixedFlows(random, random.IntN(20_000))...)
		addMess(e)
		addWhole(topk, e)
		total := e.Total()
		total.Sub(e.Devices[0].Duplicate)
		counted = append(counted, total)
		var want epoch.Count
		for _, c := range counted[max(0, len(counted)-5):] {
			want.Add(c)
		}
		top := topk.Top()
		if top.Total != want {
			t.Fatalf("epoch %d: total %v, want %v", sequence+1, top.Total, want)
		}
		if want := min(5, time.Duration(sequence+1)) * epochLength; top.Span != want {
			t.Fatalf("epoch %d: span %s, want %s", sequence+1, top.Span, want)
		}
		wantSums(t, top, k)
	}
}

// Heavy keys are found, and counted exactly, among many small ones.
func TestTopKFindsTheHeavy(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	topk := NewTopK(3, 10*epochLength)
	for sequence := range uint64(10) {
		flows := []epoch.Flow{testFlow(1, 1, 1e6), testFlow(2, 2, 2e6), testFlow(3, 3, 3e6)}
		// A scan: one source with many tiny flows, none of which matters alone.
		for i := range uint32(15_000) {
			flows = append(flows, testFlow(4, 1000+i, 500))
		}
		for i := range uint32(10_000) {
			flows = append(flows, testFlow(1e5+i, 9, 50))
		}
		random.Shuffle(len(flows), func(i, j int) { flows[i], flows[j] = flows[j], flows[i] })
		addWhole(topk, testEpoch(sequence+1, flows...))
	}
	top := topk.Top()
	wantSums(t, top, 3)
	wantTop(t, "flows", &top.Flows, func(k flow.Key) string { return k.SourceAddr().String() },
		"10.0.0.3 30000000", "10.0.0.2 20000000", "10.0.0.1 10000000")
	wantTop(t, "sources", &top.Sources, unmapped, "10.0.0.4 75000000", "10.0.0.3 30000000", "10.0.0.2 20000000")
	wantTop(t, "destinations", &top.Destinations, unmapped, "172.0.0.3 30000000", "172.0.0.2 20000000", "172.0.0.1 10000000")
	wantTop(t, "services", &top.Services, flow.Service.Name, "https 140000000")
}

func unmapped(a [16]byte) string { return netip.AddrFrom16(a).Unmap().String() }

func wantTop[K comparable](t *testing.T, what string, r *Ranking[K], name func(K) string, want ...string) {
	t.Helper()
	var got []string
	for _, e := range r.Entries {
		got = append(got, fmt.Sprint(name(e.Key), " ", e.Bytes))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// The victim of a flood stays visible though its flows were folded.
func TestTopKCountsFoldedAddresses(t *testing.T) {
	topk := NewTopK(5, time.Second)
	e := testEpoch(1, testFlow(1, 7, 100))
	addMess(e) // 5000 bytes folded to 172.0.0.7/32, and to 198.51.100.0/24
	addWhole(topk, e)
	top := topk.Top()
	wantSums(t, top, 5)
	wantTop(t, "destinations", &top.Destinations, unmapped, "172.0.0.7 5100")
	wantTop(t, "sources", &top.Sources, unmapped, "10.0.0.1 100")
	// A flow, or a source, may have been in what was folded or found the ring full.
	const remainder, folded = 4500, 5000
	got := [4]uint64{top.Flows.Missed, top.Sources.Missed, top.Destinations.Missed, top.Services.Missed}
	if want := [4]uint64{remainder + folded, remainder + folded, remainder, remainder + folded}; got != want {
		t.Errorf("missed %v, want %v", got, want)
	}
}

// Short epochs share a pane, so that the number of panes is bounded.
func TestTopKPanes(t *testing.T) {
	topk := NewTopK(5, 60*epochLength)
	for sequence := range uint64(200) {
		addWhole(topk, testEpoch(sequence+1, testFlow(1, 1, 10)))
		if len(topk.panes) > maxPanes {
			t.Fatalf("%d panes", len(topk.panes))
		}
	}
	if top := topk.Top(); top.Total.Bytes != 600 || top.Span != 60*epochLength {
		t.Errorf("%d bytes in %s, want 600 in %s", top.Total.Bytes, top.Span, 60*epochLength)
	}
}

func TestRankingHysteresis(t *testing.T) {
	// Each step is a pane of a second in a window of 3; keys have these bytes in it.
	type step struct {
		bytes map[string]uint64
		want  string
	}
	repeat := func(n int, s step) []step {
		var all []step
		for range n {
			all = append(all, s)
		}
		return all
	}
	ab := map[string]uint64{"a": 100, "b": 50}
	for _, test := range []struct {
		name                  string
		steps                 []step
		admissions, evictions uint64
	}{
		{"room is filled at once", []step{{map[string]uint64{"a": 1}, "[a]"}, {ab, "[a b]"}}, 2, 0},
		{"a bit more doesn't displace, however long", append([]step{{ab, "[a b]"}},
			repeat(20, step{map[string]uint64{"a": 100, "b": 50, "c": 60}, "[a b]"})...), 2, 0},
		{"clearly more displaces after a window", append([]step{{ab, "[a b]"}},
			step{map[string]uint64{"a": 100, "b": 50, "c": 80}, "[a b]"},
			step{map[string]uint64{"a": 100, "b": 50, "c": 80}, "[a b]"},
			step{map[string]uint64{"a": 100, "b": 50, "c": 80}, "[a c]"},
		), 3, 1},
		{"one that outclasses isn't a single burst", []step{{ab, "[a b]"},
			{map[string]uint64{"a": 100, "b": 50, "c": 1000}, "[a b]"}, {ab, "[a b]"}, {ab, "[a b]"}}, 2, 0},
		{"the idle leave after a residency", append(append([]step{{ab, "[a b]"}},
			repeat(59, step{map[string]uint64{"a": 100}, "[a b]"})...),
			step{map[string]uint64{"a": 100}, "[a]"}), 2, 1},
		{"newcomers wait for the ration, the largest gets it", append(append(append([]step{{ab, "[a b]"}},
			repeat(5, step{map[string]uint64{"c": 2e4, "d": 1e4}, ""})...),
			repeat(25, step{map[string]uint64{"c": 2, "d": 1, "e": 1e8, "f": 1e9}, "[c d]"})...),
			step{map[string]uint64{"c": 2, "d": 1, "e": 1e8, "f": 1e9}, "[f c]"}), 5, 3},
		{"two that take turns don't churn", append([]step{{map[string]uint64{"a": 100, "b": 50, "c": 50}, ""}},
			append(repeat(10, step{map[string]uint64{"a": 100, "b": 55, "c": 50}, ""}),
				repeat(10, step{map[string]uint64{"a": 100, "b": 50, "c": 55}, ""})...)...), 2, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRanking[string](2, 3*time.Second)
			var got Ranking[string]
			for i, s := range test.steps {
				p := pane[string]{span: time.Second}
				for key, bytes := range s.bytes {
					p.largest = append(p.largest, counted[string]{key, epoch.Count{Packets: 1000, Bytes: bytes}})
				}
				r.push(p)
				if len(r.panes) > 3 {
					r.pop()
				}
				got = r.rank(epoch.Count{Packets: 1e6, Bytes: 1e6})
				var keys []string
				for _, e := range got.Entries {
					keys = append(keys, e.Key)
				}
				if s.want != "" && fmt.Sprint(keys) != s.want {
					t.Errorf("step %d: got %v, want %s", i, keys, s.want)
				}
			}
			if got.Admissions != test.admissions || got.Evictions != test.evictions {
				t.Errorf("%d admissions, %d evictions; want %d, %d", got.Admissions, got.Evictions, test.admissions, test.evictions)
			}
		})
	}
}

// When one job ends and another begins, the top has changed with it after a window.
func TestTopKFollowsTheTraffic(t *testing.T) {
	topk, sequence := NewTopK(20, 15*time.Second), uint64(0)
	run := func(first uint32, d time.Duration) {
		for range d / epochLength {
			var flows []epoch.Flow
			for i := range uint32(20) {
				flows = append(flows, testFlow(first+i, i, 1e6+uint64(i)))
			}
			sequence++
			addWhole(topk, testEpoch(sequence, flows...))
		}
	}
	run(0, 5*time.Minute)
	run(100, 16*time.Second)
	for _, e := range topk.Top().Sources.Entries {
		if number := e.Key[15]; number < 100 {
			t.Errorf("%s is still there", unmapped(e.Key))
		}
	}
}

// Sums of keys are never too large, and exact while there is room.
func TestCandidates(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	none := maps.Keys(map[int]bool{})
	for _, keys := range []int{10, 64, 5000} {
		c := newCandidates(64, func(key int, s *hashSeed) uint64 { return fold64(uint64(key)^s[0], s[1]|1) })
		truth := map[int]epoch.Count{}
		for range 20_000 {
			key, count := random.IntN(keys), epoch.Count{Packets: 1, Bytes: random.Uint64N(1500)}
			sum := truth[key]
			sum.Add(count)
			truth[key] = sum
			c.add(key, count)
		}
		taken, _ := c.take(1000, none, nil)
		if len(taken.largest) > 64 || keys == 10 && len(taken.largest) != 10 {
			t.Errorf("%d keys: took %d", keys, len(taken.largest))
		}
		for _, e := range taken.largest {
			if e.Bytes > truth[e.key].Bytes || e.Packets > truth[e.key].Packets || keys == 10 && e.Count != truth[e.key] {
				t.Errorf("%d keys: %d counted as %v, truth %v", keys, e.key, e.Count, truth[e.key])
			}
		}
		kept := map[int]epoch.Count{}
		for _, e := range taken.largest {
			kept[e.key] = e.Count
		}
		for key, count := range truth {
			bound := kept[key].Bytes + taken.missed
			if _, ok := kept[key]; !ok {
				bound += taken.left
			}
			if count.Bytes > bound {
				t.Errorf("%d keys: %d had %d bytes, at most %d are allowed for", keys, key, count.Bytes, bound)
			}
		}
		if again, _ := c.take(1000, none, nil); len(again.largest) != 0 {
			t.Errorf("%d keys: %d left behind", keys, len(again.largest))
		}
	}
}

func BenchmarkTopKAdd(b *testing.B) {
	e := testEpoch(1, mixedFlows(rand.New(rand.NewPCG(1, 1)), 83_000)...)
	topk := NewTopK(20, 15*time.Second)
	b.ReportAllocs()
	for b.Loop() {
		addWhole(topk, e)
	}
}

// addWhole hands an epoch to a top that counts all of its flows.
func addWhole(topk *TopK, e *epoch.Epoch) { topk.Add(e, e) }

// The addresses with the most traffic are the same, to the byte, whether they are
// taken from all flows or from an epoch as it goes out, with nearly all flows folded.
func TestTopAddressesOfTrimmedEpochs(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	history := NewHistory(HistoryConfig{Flows: 50, Retention: time.Minute, MaxBytes: 1 << 20})
	whole, trimmed := NewTopK(10, 5*time.Second), NewTopK(10, 5*time.Second)
	for sequence := range uint64(10) {
		var flows []epoch.Flow
		for range 5000 {
			source := uint32(r.ExpFloat64() * 200)
			flows = append(flows, testFlow(source, r.Uint32N(3000), 60+r.Uint64N(1000)))
		}
		e := testEpoch(sequence+1, flows...)
		if err := history.Add(e); err != nil {
			t.Fatal(err)
		}
		whole.Add(e, e)
		trimmed.Add(e, history.Trimmed())
	}
	if got, want := trimmed.Top().Sources, whole.Top().Sources; !reflect.DeepEqual(got, want) {
		t.Errorf("sources of trimmed epochs\n%+v\nwant\n%+v", got, want)
	}
}
