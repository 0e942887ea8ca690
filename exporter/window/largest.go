package window

import "iter"

// cut is where the n largest of a set of values end. It is found in one pass and
// with n values of memory, without sorting the set.
type cut struct {
	threshold uint64 // the n-th largest value
	ties      int    // how many values equal to it are among the n largest
}

// cutAt finds the cut behind the n largest values; n is at least 1. It uses and
// returns scratch, for the next call.
func cutAt(values iter.Seq[uint64], n int, scratch []uint64) (cut, []uint64) {
	heap := scratch[:0] // the largest so far, the smallest of them at the root
	for v := range values {
		switch {
		case len(heap) < n:
			heap = append(heap, v)
			if len(heap) == n {
				heapify(heap)
			}
		case v > heap[0]:
			heap[0] = v
			siftDown(heap, 0)
		}
	}
	if len(heap) < n {
		return cut{ties: n}, heap // there is room for all of them
	}
	c := cut{threshold: heap[0]}
	for _, v := range heap {
		if v == c.threshold {
			c.ties++
		}
	}
	return c, heap
}

// keeps tells whether the next value in order is among the n largest. It must be
// asked once for each value, in the same order.
func (c *cut) keeps(v uint64) bool {
	if v == c.threshold && c.ties > 0 {
		c.ties--
		return true
	}
	return v > c.threshold
}

func heapify(heap []uint64) {
	for i := len(heap)/2 - 1; i >= 0; i-- {
		siftDown(heap, i)
	}
}

func siftDown(heap []uint64, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if right := child + 1; right < len(heap) && heap[right] < heap[child] {
			child = right
		}
		if heap[i] <= heap[child] {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}
