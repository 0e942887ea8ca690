package pairs

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

func never(*Pair) bool { return false }

// split deals talks to hosts; each talk is seen by one or two of them.
func split(r *rand.Rand, talks []talk, hosts int) [][]talk {
	parts := make([][]talk, hosts)
	for _, t := range talks {
		first, second := r.IntN(hosts), r.IntN(hosts)
		parts[first] = append(parts[first], t)
		if second != first {
			parts[second] = append(parts[second], t)
		}
	}
	return parts
}

// merge sends the talks of several hosts, each in so many epochs, through samples with
// room for so many pairs.
func merge(w *Window, hosts [][]talk, epochs, room int, begin time.Duration) {
	seed := Seed{1, 2}
	for _, talks := range hosts {
		s := NewSample(seed)
		for i := range epochs {
			insert(s, talks[len(talks)*i/epochs:len(talks)*(i+1)/epochs])
			w.Merge(s.Thin(room, never), begin+time.Duration(i)*length)
			s.Reset()
		}
	}
	w.Sweep()
}

// While everything has room the union of hosts is exact: a pair that two hosts saw is
// one pair.
func TestUnionOfHosts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	talks := background(r, 10_000)
	w := NewWindow(minute)
	merge(w, split(r, talks, 16), 4, 2000, 0)
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

// A scan that no host sees more than a sixteenth of, and a flood that one host sees,
// in samples of 256 pairs an epoch.
func TestScanAndFloodOfAFleet(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	talks := append(background(r, 20_000), fan(30<<24, 40<<24, 4000)...)
	shuffle(r, talks)
	hosts := split(r, talks, 16)
	for range 200_000 {
		hosts[3] = append(hosts[3], talk{r.Uint32(), 50 << 24})
	}
	shuffle(r, hosts[3])
	w := NewWindow(minute)
	merge(w, hosts, 20, 256, 0)
	scanner, victim := estimates(w, flow.Source)[address(30<<24)], estimates(w, flow.Destination)[address(50<<24)]
	t.Logf("scanner %+v, victim %+v, level %d, %d crowded", scanner, victim, w.Level(), len(w.crowded[flow.Destination]))
	wantAbout(t, "scanner", scanner, 4000, 0.1)
	wantAbout(t, "victim", victim, 200_000, 0.05)
	if w.Level() > 4 {
		t.Errorf("the flood raised everybody's level to %d", w.Level())
	}
	// It clears.
	merge(w, split(r, background(r, 1000), 4), 1, 256, 2*minute)
	if got := len(estimates(w, flow.Source)); got > 1000 {
		t.Errorf("%d sources after the window", got)
	}
	for i := range 5 {
		merge(w, split(r, background(r, 1000), 4), 1, 1000, time.Duration(3+i)*minute)
	}
	if w.Level() != 0 || len(w.crowded[flow.Destination]) != 0 {
		t.Errorf("level %d, %d crowded: the flood isn't forgotten", w.Level(), len(w.crowded[flow.Destination]))
	}
}

func TestThinKeepsItsRoom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	s := NewSample(Seed{1, 2})
	var talks []talk
	for range 100_000 {
		talks = append(talks, talk{r.Uint32(), r.Uint32()}, talk{r.Uint32(), 50 << 24})
	}
	insert(s, talks)
	for _, room := range []int{0, 1, 256, 5000} {
		thinned := s.Thin(room, never)
		if n := len(thinned.Pairs); n > room || n < room/3 {
			t.Errorf("%d pairs, there is room for %d", n, room)
		}
		if len(thinned.Crowded) > MaxCrowded {
			t.Errorf("%d crowded addresses", len(thinned.Crowded))
		}
	}
	all := s.Thin(0, func(*Pair) bool { return true })
	if len(all.Pairs) != len(s.pairs) {
		t.Errorf("%d of %d pairs that cost nothing", len(all.Pairs), len(s.pairs))
	}
}

// BenchmarkThin is what a flood costs at the end of an epoch.
func BenchmarkThin(b *testing.B) {
	r := rand.New(rand.NewPCG(4, 9))
	s := NewSample(Seed{1, 2})
	for range 250_000 {
		insert(s, []talk{{r.Uint32(), 50 << 24}})
	}
	for b.Loop() {
		s.Thin(256, never)
	}
}
