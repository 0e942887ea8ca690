package traffic

import "math/rand/v2"

// order deals packets out in random order: each next packet is equally likely
// to be any that is left, of whatever flow. It is a Fenwick tree over the
// flows' packets left, so that billions of packets need no list of them.
type order struct {
	tree []uint64 // 1-based; tree[i] sums the i & -i flows up to flow i-1
	left uint64
	top  int // the largest power of two within the tree
}

func newOrder(flows []Flow) *order {
	o := &order{tree: make([]uint64, len(flows)+1), top: 1}
	for o.top*2 < len(o.tree) {
		o.top *= 2
	}
	for i := range flows {
		o.tree[i+1] += flows[i].Planned
		o.left += flows[i].Planned
		if parent := (i + 1) + (i+1)&-(i+1); parent < len(o.tree) {
			o.tree[parent] += o.tree[i+1]
		}
	}
	return o
}

// next takes one of the packets that are left, of which there must be one, and
// returns the index of its flow.
func (o *order) next(random *rand.Rand) int {
	position := random.Uint64N(o.left)
	i := 0
	for step := o.top; step > 0; step /= 2 {
		if i+step < len(o.tree) && o.tree[i+step] <= position {
			i += step
			position -= o.tree[i]
		}
	}
	o.left--
	for j := i + 1; j < len(o.tree); j += j & -j {
		o.tree[j]--
	}
	return i
}
