package pairs

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
)

const (
	minute = time.Minute
	length = 500 * time.Millisecond // of an epoch
)

// talk is a source's packet to a destination.
type talk struct{ source, destination uint32 }

func address(n uint32) (a [16]byte) {
	a[10], a[11] = 0xff, 0xff
	binary.BigEndian.PutUint32(a[12:], n)
	return a
}

var key = siphash.NewKey([16]byte{1, 2, 3})

func insert(s *Sample, talks []talk) {
	for _, t := range talks {
		k := flow.Key{Source: address(t.source), Destination: address(t.destination)}
		if hash, ok := s.Samples(key.Sum(k.Source[:]), key.Sum(k.Destination[:])); ok {
			s.Add(hash, &k)
		}
	}
}

// exact is the oracle: how many distinct peers each address has.
func exact(talks []talk) (peers [2]map[[16]byte]int) {
	seen := map[talk]bool{}
	peers = [2]map[[16]byte]int{{}, {}}
	for _, t := range talks {
		if !seen[t] {
			seen[t] = true
			peers[flow.Source][address(t.source)]++
			peers[flow.Destination][address(t.destination)]++
		}
	}
	return peers
}

// estimates is what a window says.
func estimates(w *Window, d flow.Dimension) map[[16]byte]Spread {
	all := map[[16]byte]Spread{}
	for s := range w.Spreads(d) {
		all[s.Address] = s
	}
	return all
}

// fan returns the talks of a source with so many destinations of its own.
func fan(source, first uint32, n int) []talk {
	talks := make([]talk, n)
	for i := range talks {
		talks[i] = talk{source, first + uint32(i)}
	}
	return talks
}

// background is ordinary flows: clients have a few servers each, some of which are
// popular.
func background(r *rand.Rand, n int) []talk {
	talks := make([]talk, n)
	for i := range talks {
		talks[i] = talk{10<<24 | r.Uint32N(uint32(n/5)), 20<<24 | uint32(math.Pow(r.Float64(), 3)*float64(n/10))}
	}
	return talks
}

// run feeds a window with talks in epochs of so many.
func run(w *Window, s *Sample, talks []talk, perEpoch int) {
	for chunk := range slices.Chunk(talks, perEpoch) {
		insert(s, chunk)
		w.Add(s, length)
		s.Reset()
	}
}

func shuffle(r *rand.Rand, talks []talk) {
	r.Shuffle(len(talks), func(i, j int) { talks[i], talks[j] = talks[j], talks[i] })
}

// As long as there is room, the answer is exact.
func TestExactWhileThereIsRoom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	talks := background(r, 10_000)
	s, w := NewSample(NewSeed()), NewWindow(minute)
	run(w, s, append(talks, talks...), 3000)
	w.Sweep()
	for _, d := range flow.Dimensions {
		want, got := exact(talks)[d], estimates(w, d)
		if len(got) != len(want) {
			t.Errorf("%d %ss, want %d", len(got), d, len(want))
		}
		for a, n := range want {
			if e := got[a]; e.Estimate() != uint64(n) {
				t.Fatalf("%s %x has %d peers, want %d", d, a, e.Estimate(), n)
			}
		}
	}
}

// Whatever the order, and however often a pair comes, the sample is the same set.
func TestOrderAndRepetitionChangeNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	talks := background(r, 200_000)
	once, again := NewSample(Seed{1, 2}), NewSample(Seed{1, 2})
	insert(once, talks)
	shuffled := append(slices.Clone(talks), talks[:50_000]...)
	shuffle(r, shuffled)
	insert(again, shuffled)
	if once.level == 0 || once.level != again.level {
		t.Fatalf("levels %d and %d", once.level, again.level)
	}
	for _, s := range []*Sample{once, again} {
		slices.SortFunc(s.pairs, func(a, b pair) int { return cmp.Compare(a.hash, b.hash) })
	}
	if !reflect.DeepEqual(once.pairs, again.pairs) {
		t.Error("samples of the same pairs differ")
	}
}

// spreadsToFind are in a background of 100,000 ordinary flows.
var spreadsToFind = []int{100, 1000, 10_000, 1_000_000}

// deviations returns the relative errors of many trials for one source among
// ordinary flows, which come shuffled in epochs of 50,000, and what the sampled
// pairs promise of them.
func deviations(n, trials int) (rms, bias, promised float64) {
	r := rand.New(rand.NewPCG(3, uint64(n)))
	for range trials {
		talks := append(background(r, 100_000), fan(30<<24, 40<<24, n)...)
		shuffle(r, talks)
		s, w := NewSample(NewSeed()), NewWindow(minute)
		run(w, s, talks, 50_000)
		w.Sweep()
		got := estimates(w, flow.Source)[address(30<<24)]
		e := float64(got.Estimate())/float64(n) - 1
		rms, bias = rms+e*e, bias+e
		promised += math.Exp2(float64(got.Level)) / float64(n)
	}
	return math.Sqrt(rms / float64(trials)), bias / float64(trials), math.Sqrt(promised / float64(trials))
}

func TestErrorIsTheStatedOne(t *testing.T) {
	for n, want := range map[int]float64{100: 0.35, 1000: 0.12, 10_000: 0.05, 200_000: 0.035} {
		const trials = 12
		rms, bias, _ := deviations(n, trials)
		t.Logf("%d peers: error %.3f, bias %+.3f", n, rms, bias)
		if rms > want*(1+3/math.Sqrt(2*trials)) {
			t.Errorf("%d peers: error %.3f, want about %.3f at most", n, rms, want)
		}
		if math.Abs(bias) > 3.5*want/math.Sqrt(trials) {
			t.Errorf("%d peers: bias %+.3f", n, bias)
		}
	}
}

// BenchmarkError prints the error of 100 trials for each spread.
func BenchmarkError(b *testing.B) {
	for _, n := range spreadsToFind {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var rms, bias, promised float64
			for b.Loop() {
				rms, bias, promised = deviations(n, 100)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(100*rms, "%rmse")
			b.ReportMetric(100*bias, "%bias")
			b.ReportMetric(100*promised, "%promised")
		})
	}
}

// top returns the addresses with the most peers.
func top(n int, all map[[16]byte]int) [][16]byte {
	var addresses [][16]byte // sorted, at most n of them
	for a := range all {
		i, _ := slices.BinarySearchFunc(addresses, a, func(x, a [16]byte) int {
			return cmp.Or(cmp.Compare(all[a], all[x]), slices.Compare(x[:], a[:]))
		})
		if i < n {
			addresses = slices.Insert(addresses, i, a)
			addresses = addresses[:min(n, len(addresses))]
		}
	}
	return addresses
}

// recall returns how many of the 20 sources with the most destinations are among
// the 20 that a window finds, of spreaders with so many destinations and
// proportionally more each, in ordinary flows and in a flood.
func recall(seed uint64, least int, ratio float64, flood int) float64 {
	r := rand.New(rand.NewPCG(seed, 4))
	talks := background(r, 100_000)
	for i := range 40 {
		talks = append(talks, fan(30<<24+uint32(i), 40<<24+uint32(i)<<16, int(float64(least)*math.Pow(ratio, float64(i))))...)
	}
	for range flood {
		talks = append(talks, talk{r.Uint32(), 50 << 24})
	}
	shuffle(r, talks)
	s, w := NewSample(NewSeed()), NewWindow(minute)
	run(w, s, talks, 50_000)
	w.Sweep()
	got := map[[16]byte]int{}
	for a, e := range estimates(w, flow.Source) {
		got[a] = int(e.Estimate())
	}
	found := top(20, got)
	both := 0.0
	for _, a := range top(20, exact(talks)[flow.Source]) {
		if slices.Contains(found, a) {
			both++
		}
	}
	return both / 20
}

// Forty spreaders, each with 15 % more peers than the next: the top 20 are found
// but for neighbours of the twentieth.
func TestRecall(t *testing.T) {
	for _, test := range []struct {
		what         string
		least, flood int
		want         float64
	}{
		{"ordinary flows", 20, 0, 0.9},
		{"spoofed flood", 20, 300_000, 0.75},
	} {
		var sum float64
		const trials = 3
		for seed := range uint64(trials) {
			sum += recall(seed, test.least, 1.15, test.flood)
		}
		t.Logf("%s: recall of the top 20 is %.3f", test.what, sum/trials)
		if sum/trials < test.want {
			t.Errorf("%s: recall of the top 20 is %.3f, want %.2f", test.what, sum/trials, test.want)
		}
	}
}

func BenchmarkRecall(b *testing.B) {
	for _, flood := range []int{0, 1_000_000} {
		b.Run(fmt.Sprintf("flood of %d", flood), func(b *testing.B) {
			var sum float64
			for b.Loop() {
				sum = 0
				for seed := range uint64(10) {
					sum += recall(seed, 20, 1.15, flood)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(sum/10, "recall")
		})
	}
}

// A flood is seen for what it is, and doesn't hide a scan.
func TestScanInAFlood(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	var talks []talk
	for range 1_000_000 {
		talks = append(talks, talk{r.Uint32(), 50 << 24})
	}
	talks = append(talks, fan(30<<24, 40<<24, 10_000)...)
	talks = append(talks, background(r, 50_000)...)
	shuffle(r, talks)
	s, w := NewSample(NewSeed()), NewWindow(minute)
	run(w, s, talks, 250_000)
	w.Sweep()
	wantAbout(t, "victim", estimates(w, flow.Destination)[address(50<<24)], 1_000_000, 0.032)
	wantAbout(t, "scanner", estimates(w, flow.Source)[address(30<<24)], 10_000, 0.08)
	if w.all.counts > 5 {
		t.Errorf("the flood raised everybody's level to %d", w.all.counts)
	}
}

// wantAbout allows for four standard errors.
func wantAbout(t *testing.T, what string, got Spread, want, standardError float64) {
	t.Helper()
	if e := float64(got.Estimate())/want - 1; math.Abs(e) > 4*standardError {
		t.Errorf("%s: %d peers (%d at level %d), want %.0f", what, got.Estimate(), got.Sampled, got.Level, want)
	}
}

// pass lets time go by, with a source that goes on.
func pass(w *Window, s *Sample, epochs int) {
	for range epochs {
		run(w, s, fan(30<<24, 40<<24, 300), 1000)
		w.Sweep()
	}
}

// A window forgets what is a minute ago and nothing younger.
func TestWindowSlides(t *testing.T) {
	s, w := NewSample(NewSeed()), NewWindow(minute)
	run(w, s, fan(1, 1000, 500), 1000)
	run(w, s, fan(1, 1400, 500), 1000)
	pass(w, s, 118)
	if got := estimates(w, flow.Source)[address(1)]; got.Estimate() != 900 {
		t.Errorf("%d peers, want 900 within a minute", got.Estimate())
	}
	pass(w, s, 1)
	if got := estimates(w, flow.Source)[address(1)]; got.Estimate() != 500 {
		t.Errorf("%d peers, want the 500 of the second epoch", got.Estimate())
	}
	pass(w, s, 1)
	if got, ok := estimates(w, flow.Source)[address(1)]; ok {
		t.Errorf("%d peers, want none any more", got.Estimate())
	}
}

// After a flood of anything to anything, and to one victim, a window is as exact as
// before once four of its length have passed.
func TestWindowRecovers(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	s, w := NewSample(NewSeed()), NewWindow(minute)
	for range 20 {
		talks := fan(30<<24, 40<<24, 300)
		for range 100_000 {
			talks = append(talks, talk{r.Uint32(), r.Uint32()}, talk{r.Uint32(), 50 << 24})
		}
		run(w, s, talks, len(talks))
		w.Sweep()
	}
	if w.all.counts < 5 || len(w.crowded[flow.Destination]) != 1 {
		t.Fatalf("level %d, %d crowded destinations: the flood isn't one", w.all.counts, len(w.crowded[flow.Destination]))
	}
	pass(w, s, 4*120)
	if got := estimates(w, flow.Source)[address(30<<24)]; got.Estimate() != 300 || got.Level != 0 {
		t.Errorf("%d peers at level %d, want exactly 300 again", got.Estimate(), got.Level)
	}
	if n := len(w.crowded[flow.Destination]); n != 0 {
		t.Errorf("%d crowded destinations that are none", n)
	}
}

// A window's level counts only what was gathered throughout: while it falls,
// estimates stay right.
func TestFallingLevels(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	s, w := NewSample(NewSeed()), NewWindow(minute)
	victim := func(n int) []talk {
		talks := fan(30<<24, 40<<24, 4000)
		for range n {
			talks = append(talks, talk{r.Uint32N(20_000), 50 << 24})
		}
		return talks
	}
	for epoch := range 600 {
		talks := victim(1000)
		if epoch < 100 {
			for range 100_000 {
				talks = append(talks, talk{r.Uint32(), r.Uint32()})
			}
		}
		run(w, s, talks, len(talks))
		w.Sweep()
		if epoch < 100 || epoch%10 != 0 {
			continue
		}
		got := estimates(w, flow.Source)[address(30<<24)]
		wantAbout(t, fmt.Sprintf("epoch %d", epoch), got, 4000, math.Sqrt(math.Exp2(float64(got.Level))/4000))
		got = estimates(w, flow.Destination)[address(50<<24)]
		if sampled := float64(got.Sampled); sampled > 0 && epoch >= 120 {
			// 120,000 draws from 20,000 meet nearly all of them.
			wantAbout(t, fmt.Sprintf("epoch %d, destination", epoch), got, 20_000*(1-math.Exp(-6)), max(0.005, math.Sqrt(math.Exp2(float64(got.Level))/20_000)))
		}
	}
}

// Whatever comes, rooms are kept and sampled pairs are whole.
func TestBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	s, w := NewSample(NewSeed()), NewWindow(minute)
	for epoch := range 60 {
		var talks []talk
		for range r.IntN(100_000) {
			talks = append(talks, talk{r.Uint32N(1 << r.IntN(32)), r.Uint32N(1 << r.IntN(32))})
		}
		run(w, s, talks, len(talks)+1)
		if epoch%3 == 0 {
			w.Sweep()
		}
		if cap(s.pairs) != sampleRoom || cap(w.pairs) != windowRoom || cap(w.spreads) != windowRoom {
			t.Fatalf("room for %d, %d, %d: something grew", cap(s.pairs), cap(w.pairs), cap(w.spreads))
		}
		for i := range w.pairs {
			if p := &w.pairs[i].pair; w.pairs[w.index.places[w.find(p.hash)]-1].hash != p.hash {
				t.Fatal("a pair isn't found")
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	s, w := NewSample(NewSeed()), NewWindow(minute)
	talks := background(rand.New(rand.NewPCG(9, 9)), 50_000)
	if n := testing.AllocsPerRun(5, func() {
		insert(s, talks)
		w.Add(s, length)
		w.Sweep()
		s.Reset()
	}); n > 8 { // an address that becomes crowded, and two closures
		t.Errorf("%v allocations an epoch", n)
	}
}

// BenchmarkInsert is what a flow costs that is new in its epoch, beyond the hashes
// of its addresses.
func BenchmarkInsert(b *testing.B) {
	for name, destinations := range map[string]uint32{"flood": 1, "anything": 1 << 31} {
		b.Run(name, func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			hashes := make([]uint64, 1<<20)
			for i := range hashes {
				hashes[i] = r.Uint64()
			}
			s, n := NewSample(NewSeed()), uint32(0)
			var k flow.Key
			for b.Loop() {
				if hash, ok := s.Samples(hashes[n&(1<<20-1)], hashes[(n*7+3)%destinations&(1<<20-1)]); ok {
					s.Add(hash, &k)
				}
				if n++; n%250_000 == 0 {
					s.Reset()
				}
			}
		})
	}
}

// BenchmarkWindow is what an epoch of 250,000 new flows costs a window.
func BenchmarkWindow(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	s, w := NewSample(NewSeed()), NewWindow(minute)
	b.Run("add", func(b *testing.B) {
		var spent time.Duration
		for b.Loop() {
			talks := make([]talk, 250_000)
			for i := range talks {
				talks[i] = talk{r.Uint32(), r.Uint32N(4096)}
			}
			insert(s, talks)
			began := time.Now()
			w.Add(s, length)
			spent += time.Since(began)
			s.Reset()
		}
		b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "ns/op")
	})
	b.Run("sweep", func(b *testing.B) {
		for b.Loop() {
			w.Sweep()
			for range w.Spreads(flow.Source) {
			}
			for range w.Spreads(flow.Destination) {
			}
		}
		b.ReportMetric(float64(len(w.pairs)), "pairs")
	})
}
