package entropy

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// distribution is how many packets each of some keys has.
type distribution struct {
	name    string
	packets func(r *rand.Rand) []uint64
}

// zipf draws packets for keys whose probabilities go with the power of their rank.
func zipf(keys int, exponent float64, packets int) func(*rand.Rand) []uint64 {
	up := make([]float64, keys)
	sum := 0.0
	for i := range up {
		sum += math.Pow(float64(i+1), -exponent)
		up[i] = sum
	}
	return func(r *rand.Rand) []uint64 {
		// In order of rank, which needs no search: spacings of uniform numbers are
		// exponential.
		counts := make([]uint64, keys)
		at, i := 0.0, 0
		for left := packets; left > 0; left-- {
			at = 1 - (1-at)*math.Pow(r.Float64(), 1/float64(left))
			for i < keys-1 && up[i] < at*sum {
				i++
			}
			counts[i]++
		}
		return counts
	}
}

// constant gives each key as many.
func constant(keys int, packets uint64) func(*rand.Rand) []uint64 {
	return func(*rand.Rand) []uint64 { return slices.Repeat([]uint64{packets}, keys) }
}

// elephant is one key with so many packets among mice.
func elephant(mice int, packets uint64) func(*rand.Rand) []uint64 {
	return func(r *rand.Rand) []uint64 { return append(zipf(mice, 0, 5*mice)(r), packets) }
}

var distributions = []distribution{
	{"uniform over 500", constant(500, 20)},
	{"uniform over 3000", zipf(3000, 0, 300_000)},
	{"uniform over 100000", zipf(100_000, 0, 1_000_000)},
	{"one each of 1000000", constant(1_000_000, 1)},
	{"Zipf 0.8 over 100000", zipf(100_000, 0.8, 1_000_000)},
	{"Zipf 1.0 over 100000", zipf(100_000, 1.0, 1_000_000)},
	{"Zipf 1.2 over 100000", zipf(100_000, 1.2, 1_000_000)},
	{"Zipf 1.2 over 1000", zipf(1000, 1.2, 100_000)},
	{"elephant with half, 100000 mice", elephant(100_000, 500_000)},
	{"elephant with nearly all, 10000 mice", elephant(10_000, 5_000_000)},
	{"one key", constant(1, 1_000_000)},
	{"two keys", constant(2, 1_000_000)},
}

// exactRatio is the oracle.
func exactRatio(counts []uint64) float64 {
	total, keys := 0.0, 0.0
	for _, n := range counts {
		total += float64(n)
		if n > 0 {
			keys++
		}
	}
	if keys < 2 {
		return 0
	}
	h := 0.0
	for _, n := range counts {
		if p := float64(n) / total; p > 0 {
			h -= p * math.Log2(p)
		}
	}
	return h / math.Log2(keys)
}

// distinctOf counts the keys, with the error that a HyperLogLog has.
func distinctOf(r *rand.Rand, counts []uint64) float64 {
	keys := 0.0
	for _, n := range counts {
		if n > 0 {
			keys++
		}
	}
	return keys * (1 + 0.0081*r.NormFloat64())
}

// estimate spreads the packets over some sketches, as panes of a window.
func estimate(r *rand.Rand, counts []uint64, sketches int) float64 {
	a, u := NewAccumulator(), NewUnion()
	panes := make([]*Sketch, sketches)
	hashes := make([]uint64, len(counts))
	for i := range hashes {
		hashes[i] = r.Uint64()
	}
	for p := range panes {
		panes[p] = NewSketch()
		for i, n := range counts {
			part := n / uint64(sketches)
			if (uint64(p)+hashes[i])%uint64(sketches) < n%uint64(sketches) {
				part++
			}
			// In two counts, as of two flows.
			if part > 0 {
				a.Add(hashes[i], part/2)
				a.Add(hashes[i], part-part/2)
			}
		}
		panes[p].Add(a)
		a.Reset()
	}
	u.Set(slices.Values(panes))
	return u.Ratio(distinctOf(r, counts))
}

// The estimate is near the exact entropy, whatever the distribution.
func TestRatio(t *testing.T) {
	for _, d := range distributions {
		exact, rms, bias, worst := deviation(d, 4)
		t.Logf("%s: %.4f, off by %.4f, %+.4f on the average, %.4f at worst", d.name, exact, rms, bias, worst)
		if rms > 0.025 {
			t.Errorf("%s: %.4f, off by %.4f", d.name, exact, rms)
		}
	}
}

// deviation returns the errors of some trials, and the last exact ratio.
func deviation(d distribution, trials int) (exact, rms, bias, worst float64) {
	for trial := range trials {
		r := rand.New(rand.NewPCG(uint64(trial), 1))
		counts := d.packets(r)
		exact = exactRatio(counts)
		e := estimate(r, counts, 3) - exact
		rms, bias, worst = rms+e*e, bias+e, max(worst, math.Abs(e))
	}
	return exact, math.Sqrt(rms / float64(trials)), bias / float64(trials), worst
}

func BenchmarkError(b *testing.B) {
	for _, d := range distributions {
		b.Run(d.name, func(b *testing.B) {
			var exact, rms, bias, worst float64
			for b.Loop() {
				exact, rms, bias, worst = deviation(d, 40)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(exact, "ratio")
			b.ReportMetric(rms, "rms-error")
			b.ReportMetric(bias, "bias")
			b.ReportMetric(worst, "worst-error")
		})
	}
}
