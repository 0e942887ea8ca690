package hhh

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// What comes out of Packed is what went in, to the byte, and so is a tree of it.
func TestPacked(t *testing.T) {
	for i := range 40 {
		r := rand.New(rand.NewPCG(uint64(i), 11))
		masses := randomMasses(r, r.IntN(400))
		masses = append(masses, Mass{Count: epoch.Count{Packets: 1, Bytes: math.MaxUint64 >> 20}},
			Mass{AddrPrefix([16]byte{0xff, 15: 0xff}), epoch.Count{Packets: math.MaxUint64, Bytes: 1}},
			Mass{AddrPrefix([16]byte{0xff, 8: 0xff, 15: 0xff}), epoch.Count{Packets: 3, Bytes: 1}})
		masses = Combine(masses)
		packed := Pack(masses)
		if got := packed.AppendTo(nil); !slices.Equal(got, masses) || packed.Len() != len(masses) {
			t.Fatalf("%d masses became %d", len(masses), len(got))
		}
		if got := slices.Collect(packed.All()); !slices.Equal(got, masses) {
			t.Fatalf("All yields %d of %d masses", len(got), len(masses))
		}
		lists, all := NewBuilder(DefaultLevels()), NewBuilder(DefaultLevels())
		lists.Add(masses)
		all.AddPacked(packed)
		if a, b := lists.Build().Heavy(0.01), all.Build().Heavy(0.01); !slices.Equal(a, b) {
			t.Errorf("heavy are %v, of packed masses %v", a, b)
		}
	}
}

func TestPackedIsSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	masses := make([]Mass, 20_000)
	for i := range masses {
		address := [16]byte{10: 0xff, 11: 0xff, 12: byte(1 + r.IntN(200)), 13: byte(r.Uint32()), 14: byte(r.Uint32()), 15: byte(r.Uint32())}
		packets := uint64(1 + r.ExpFloat64()*20)
		masses[i] = Mass{AddrPrefix(address), epoch.Count{Packets: packets, Bytes: packets * 700}}
	}
	if packed := Pack(Combine(masses)); packed.Size() > 10*packed.Len() {
		t.Errorf("%d bytes for %d masses", packed.Size(), packed.Len())
	}
}

// Merging sorted lists, and combining all of what is in them, is the same.
func TestMerge(t *testing.T) {
	for i := range 40 {
		r := rand.New(rand.NewPCG(uint64(i), 12))
		var lists [][]Mass
		var all []Mass
		for range r.IntN(7) {
			list := randomMasses(r, r.IntN(100))
			all = append(all, list...)
			lists = append(lists, Combine(list))
		}
		slices.SortStableFunc(all, func(a, b Mass) int { return a.Compare(b.Prefix) })
		if got := Merge(lists...); !slices.Equal(got, addUp(all)) {
			t.Errorf("%d lists: %d masses, want %d", len(lists), len(got), len(addUp(all)))
		}
	}
}
