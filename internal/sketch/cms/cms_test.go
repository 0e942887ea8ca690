package cms

import (
	"math"
	"math/rand/v2"
	"testing"
)

// traffic is items with counts that differ by orders of magnitude, and the truth.
type traffic struct {
	hashes []uint64
	counts []uint64
	exact  map[uint64]uint64
	total  uint64
}

func newTraffic(seed uint64, items, additions int) *traffic {
	r := rand.New(rand.NewPCG(seed, 1))
	t := &traffic{exact: map[uint64]uint64{}}
	all := make([]uint64, items)
	for i := range all {
		all[i] = r.Uint64()
	}
	for range additions {
		item := all[int(math.Pow(r.Float64(), 3)*float64(items))]
		n := r.Uint64N(1 << r.IntN(12))
		t.hashes, t.counts = append(t.hashes, item), append(t.counts, n)
		t.exact[item] += n
		t.total += n
	}
	return t
}

func (t *traffic) addTo(s *Sketch) {
	for i, hash := range t.hashes {
		s.Add(hash, t.counts[i])
	}
}

// plain is the sketch without conservative update, in the obvious way.
func plain(s *Sketch, t *traffic) *Sketch {
	all := New(s.Width())
	for i, hash := range t.hashes {
		for _, cell := range all.cells(hash) {
			*cell += t.counts[i]
		}
	}
	return all
}

func TestGuarantee(t *testing.T) {
	for _, width := range []int{2, 64, 1024, 8192} {
		traffic := newTraffic(uint64(width), 20_000, 100_000)
		s := New(width)
		traffic.addTo(s)
		oracle := plain(s, traffic)
		bound := uint64(math.E / float64(width) * float64(traffic.total))
		beyond := 0
		for item, n := range traffic.exact {
			estimate := s.Estimate(item)
			if estimate < n {
				t.Fatalf("width %d: estimate %d of an item with %d", width, estimate, n)
			}
			if estimate > oracle.Estimate(item) {
				t.Fatalf("width %d: conservative update estimates %d, plain %d", width, estimate, oracle.Estimate(item))
			}
			if estimate > n+bound {
				beyond++
			}
		}
		if share := float64(beyond) / float64(len(traffic.exact)); share > math.Exp(-Depth) {
			t.Errorf("width %d: %.3f of the items exceed the bound, want at most %.3f", width, share, math.Exp(-Depth))
		}
		if s.Total() != traffic.total {
			t.Errorf("width %d: total %d, want %d", width, s.Total(), traffic.total)
		}
	}
}

// The order of additions changes estimates, and never to below the truth.
func TestMergeNeverUnderestimates(t *testing.T) {
	a, b := newTraffic(1, 5000, 20_000), newTraffic(2, 5000, 20_000)
	for i := range b.hashes[:10_000] { // some items are in both
		b.exact[b.hashes[i]] -= b.counts[i]
		b.hashes[i] = a.hashes[i]
		b.exact[b.hashes[i]] += b.counts[i]
	}
	for _, width := range []int{2, 64, 512, 1024, 8192} {
		sum, other := New(512), New(width)
		a.addTo(sum)
		b.addTo(other)
		sum.Merge(other)
		for _, items := range []map[uint64]uint64{a.exact, b.exact} {
			for item := range items {
				n, estimate := a.exact[item]+b.exact[item], sum.Estimate(item)
				if estimate < n {
					t.Fatalf("width %d: estimate %d of an item with %d", width, estimate, n)
				}
				if estimate > sum.Total() {
					t.Fatalf("width %d: estimate %d, more than all there is", width, estimate)
				}
			}
		}
		if sum.Total() != a.total+b.total {
			t.Errorf("width %d: total %d, want %d", width, sum.Total(), a.total+b.total)
		}
	}
}

// An item that is alone is exact, and Reset forgets it.
func TestAloneAndReset(t *testing.T) {
	s := New(1000)
	if s.Width() != 1024 {
		t.Errorf("width %d, want the next power of two", s.Width())
	}
	s.Add(7, 10)
	s.Add(7, 5)
	if got := s.Estimate(7); got != 15 {
		t.Errorf("estimate %d, want 15", got)
	}
	s.Reset()
	if s.Estimate(7) != 0 || s.Total() != 0 {
		t.Error("something is left after Reset")
	}
}

func BenchmarkAdd(b *testing.B) {
	s := New(1 << 14)
	r := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		s.Add(r.Uint64(), 60)
	}
}
