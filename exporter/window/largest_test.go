package window

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// The oracle sorts.
func TestCut(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var scratch []uint64
	for range 2000 {
		values := make([]uint64, random.IntN(60))
		for i := range values {
			values[i] = random.Uint64N(20) // many ties, zeros too
		}
		n := 1 + random.IntN(40)
		var largest fold.Cut
		largest, scratch = cutAt(slices.Values(values), n, scratch)
		var got []uint64
		for _, v := range values {
			if largest.Keeps(v) {
				got = append(got, v)
			}
		}
		want := slices.Clone(values)
		slices.Sort(want)
		want = want[max(0, len(want)-n):]
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("the %d largest of %v: got %v, want %v", n, values, got, want)
		}
	}
}
