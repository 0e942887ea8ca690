package traffic

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// DistributionKind names a distribution of packets over flows.
type DistributionKind string

// The distributions. Uniform gives every flow as many. Zipf gives the flow of
// rank r a share proportional to r^-exponent. Pareto draws shares from a
// Pareto distribution with the exponent as its shape.
const (
	Uniform DistributionKind = "uniform"
	Zipf    DistributionKind = "zipf"
	Pareto  DistributionKind = "pareto"
)

// Distribution is how packets are spread over flows.
type Distribution struct {
	Kind DistributionKind
	// Exponent is Zipf's exponent or Pareto's shape; Uniform has none.
	Exponent float64
}

// ParseDistribution reads "uniform", "zipf:EXPONENT" or "pareto:SHAPE".
func ParseDistribution(text string) (Distribution, error) {
	kind, exponent, found := strings.Cut(text, ":")
	d := Distribution{Kind: DistributionKind(kind)}
	if found {
		value, err := strconv.ParseFloat(exponent, 64)
		if err != nil {
			return Distribution{}, fmt.Errorf("distribution %q: %q isn't a number", text, exponent)
		}
		d.Exponent = value
	}
	return d, d.validate()
}

// String is the inverse of ParseDistribution.
func (d Distribution) String() string {
	if d.Kind == Uniform {
		return string(d.Kind)
	}
	return fmt.Sprintf("%s:%v", d.Kind, d.Exponent)
}

func (d Distribution) validate() error {
	switch {
	case d.Kind == Uniform && d.Exponent == 0:
		return nil
	case (d.Kind == Zipf || d.Kind == Pareto) && d.Exponent > 0 && d.Exponent <= 10:
		return nil
	}
	return fmt.Errorf("distribution %q: allowed are uniform, zipf:EXPONENT and pareto:SHAPE, with a number above 0 and at most 10", d.String())
}

// spread divides a total over n flows: at least one each, the rest in
// proportion to the distribution, what rounding leaves to the first flows.
// It needs total >= n.
func (d Distribution) spread(total uint64, n int, random *rand.Rand) []uint64 {
	weights, sum := d.weights(n, random)
	counts := make([]uint64, n)
	spare := total - uint64(n)
	given := uint64(0)
	for i, w := range weights {
		extra := min(uint64(float64(spare)*(w/sum)), spare-given)
		counts[i] = 1 + extra
		given += extra
	}
	for i := 0; given < spare; i = (i + 1) % n {
		counts[i]++
		given++
	}
	return counts
}

func (d Distribution) weights(n int, random *rand.Rand) (weights []float64, sum float64) {
	weights = make([]float64, n)
	for i := range weights {
		switch d.Kind {
		case Zipf:
			weights[i] = math.Pow(float64(i+1), -d.Exponent)
		case Pareto:
			weights[i] = math.Pow(1-random.Float64(), -1/d.Exponent)
		default:
			weights[i] = 1
		}
		sum += weights[i]
	}
	return weights, sum
}
