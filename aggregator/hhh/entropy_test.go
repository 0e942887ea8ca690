package hhh

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// spread is packets by address; each packet has a size of its own, which must not
// matter.
func spread(r *rand.Rand, packets []uint64) []Mass {
	masses := make([]Mass, len(packets))
	for i, n := range packets {
		address := [16]byte{10: 0xff, 11: 0xff}
		binary.BigEndian.PutUint32(address[12:], r.Uint32()&^0xfffff|uint32(i)) // distinct
		masses[i] = Mass{AddrPrefix(address), epoch.Count{Packets: n, Bytes: n * (60 + r.Uint64N(1400))}}
	}
	return masses
}

// slowEntropy is the definition.
func slowEntropy(packets []uint64) (ratio float64) {
	var total, bits float64
	for _, n := range packets {
		total += float64(n)
	}
	for _, n := range packets {
		p := float64(n) / total
		bits -= p * math.Log2(p)
	}
	if len(packets) < 2 {
		return 0
	}
	return bits / math.Log2(float64(len(packets)))
}

func TestEntropy(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	zipf := func(n int, s float64) (packets []uint64) {
		for i := range n {
			packets = append(packets, 1+uint64(float64(n)/math.Pow(float64(i+1), s)))
		}
		return packets
	}
	even := make([]uint64, 20_000)
	for i := range even {
		even[i] = 3
	}
	for name, test := range map[string]struct {
		packets []uint64
		allowed float64 // where most had to fold
	}{
		"one":          {[]uint64{7}, 0},
		"two":          {[]uint64{1, 3}, 0.01},
		"even":         {even, 0.001},
		"one elephant": {append([]uint64{60_000}, even...), 0.001},
		"Zipf 1":       {zipf(20_000, 1), 0.02},
		"Zipf 0.6":     {zipf(20_000, 0.6), 0.02},
	} {
		want := slowEntropy(test.packets)
		masses := Combine(spread(r, test.packets))
		got := treeOf(masses).Entropy(1)
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		folded := treeOf(FoldSmallest(masses, 2000)).Entropy(float64(len(test.packets)) * 1.008)
		t.Logf("%s: %.4f, of folded %.4f", name, got, folded)
		if math.Abs(folded-want) > test.allowed {
			t.Errorf("%s, folded: %v, want %v", name, folded, want)
		}
	}
	if got := treeOf(nil).Entropy(0); got != 0 {
		t.Errorf("nothing has %v", got)
	}
}

func treeOf(masses []Mass) *Tree {
	b := NewBuilder(DefaultLevels())
	b.Add(masses)
	return b.Build()
}
