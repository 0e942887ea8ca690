package window

import (
	"iter"

	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// cutAt finds the cut behind the n largest values, if there are more, in one pass and
// with 4n values of memory, whatever their order; n is at least 1. It uses and returns
// scratch, for the next call.
func cutAt(values iter.Seq[uint64], n int, scratch []uint64) (fold.Cut, []uint64) {
	if cap(scratch) < 4*n {
		scratch = make([]uint64, 4*n)
	}
	// Those that may be among the largest, and room for fold.CutAt.
	candidates, room := scratch[0:0:2*n], scratch[2*n:4*n]
	floor, above := uint64(0), false
	for v := range values {
		if above && v <= floor {
			continue // the n largest of those before are as large
		}
		if len(candidates) == cap(candidates) {
			floor, above = compact(&candidates, room, n), true
			if v <= floor {
				continue
			}
		}
		candidates = append(candidates, v)
	}
	if len(candidates) < n {
		return fold.Cut{Ties: n}, scratch // there is room for all of them
	}
	return fold.CutAt(candidates, n), scratch
}

// compact leaves the n largest of the values and returns the smallest of them.
func compact(values *[]uint64, room []uint64, n int) uint64 {
	copy(room, *values)
	largest := fold.CutAt(room[:len(*values)], n)
	kept := (*values)[:0]
	for _, v := range *values {
		if largest.Keeps(v) {
			kept = append(kept, v)
		}
	}
	*values = kept
	return largest.Threshold
}
