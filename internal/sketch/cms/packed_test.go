package cms

import (
	"math"
	"testing"
)

// A packed sketch estimates what the sketch does, and never less where cells are large.
func TestPacked(t *testing.T) {
	traffic, p := newTraffic(7, 20_000, 100_000), &Packed{}
	s := New(1024)
	traffic.addTo(s)
	for _, heavy := range []uint64{0, 1<<31 - 1, 1 << 31, 1 << 32, 1<<40 + 1, math.MaxUint64 - traffic.total} {
		s.Add(1, heavy-min(heavy, s.Estimate(1)))
		p.Pack(s)
		largest := uint64(0)
		for _, row := range s.rows {
			for _, cell := range row {
				largest = max(largest, cell)
			}
		}
		for item := range traffic.exact {
			truth, got := s.Estimate(item), p.Estimate(item)
			if got < truth || got-truth > largest>>30 || largest < 1<<31 && got != truth {
				t.Fatalf("estimate %d of an item with %d, largest cell %d", got, truth, largest)
			}
		}
		if got, want := p.Estimate(1), s.Estimate(1); got < want && want <= math.MaxUint64-1<<34 {
			t.Errorf("estimate %d of the heavy item with %d", got, want)
		}
	}
	s.Reset()
	p.Pack(s)
	for item := range traffic.exact {
		if p.Estimate(item) != 0 {
			t.Fatal("something is left")
		}
	}
}
