package hhh

import "math"

// Entropy says how evenly packets are spread over addresses: the Shannon entropy of
// their distribution, log2 T - (1/T) sum of n log2 n over addresses with n of T
// packets each, divided by the greatest that so many distinct addresses can have. It
// is 1 if all have equally many, 0 if one has all.
//
// It is exact for what stands at addresses. What stands at shorter prefixes is taken
// to be spread evenly over those of the distinct addresses that the tree doesn't have:
// small ones fold, so they are alike. If all are there, distinct is their number,
// whatever is given.
func (t *Tree) Entropy(distinct float64) float64 {
	var packets, logs, addresses float64
	for i := range t.families {
		t.addresses(&t.families[i], 0, func(n Node) {
			packets += float64(n.Packets)
			logs += nlogn(float64(n.Packets))
			addresses++
		})
	}
	all := float64(t.total.Packets)
	if hidden := all - packets; hidden <= 0 {
		distinct = addresses
	} else {
		distinct = addresses + max(1, min(hidden, distinct-addresses))
		logs += hidden * math.Log2(hidden/(distinct-addresses))
	}
	if distinct < 1.5 {
		return 0
	}
	return max(0, min(1, (math.Log2(all)-logs/all)/math.Log2(distinct)))
}

func nlogn(n float64) float64 {
	if n <= 0 {
		return 0
	}
	return n * math.Log2(n)
}
