package hhh

import (
	"cmp"
	"math"
	"slices"
)

// Heavy is a hierarchical heavy hitter.
type Heavy struct {
	Node
	Conditioned uint64 // bytes, less those of its heavy descendants
}

// Threshold returns the least count that is at least the share of a total. The
// quotient of two integers and a share that was written in decimal are both
// rounded to the nearest float, so that equality is found where there is any:
// 7 of 100 is 0.07, while 0.07*100 is more than 7.
func Threshold(share float64, total uint64) uint64 {
	if share <= 0 || total == 0 {
		return 0
	}
	of := float64(total)
	t := uint64(math.Ceil(share * of))
	for t > 0 && float64(t-1)/of >= share {
		t--
	}
	for float64(t)/of < share {
		t++
	}
	return t
}

// Heavy returns the discounted hierarchical heavy hitters for a share phi of the
// total, 0 < phi <= 1, by bytes descending, then by prefix. There are at most
// 1/phi of them, as each has its own share. The root is one of the candidates.
func (t *Tree) Heavy(phi float64) []Heavy {
	if t.total.Bytes == 0 {
		return nil
	}
	s := search{threshold: max(1, Threshold(phi, t.total.Bytes))}
	left := t.self.Bytes
	for i := range t.families {
		left += s.families(&t.families[i], t.unknown+t.self.Bytes)
	}
	if left >= s.threshold {
		s.found = append(s.found, Heavy{Node: t.Root(), Conditioned: left})
	}
	slices.SortFunc(s.found, func(a, b Heavy) int {
		if c := cmp.Compare(b.Bytes, a.Bytes); c != 0 {
			return c
		}
		return a.Compare(b.Prefix)
	})
	return s.found
}

// search is one run of Heavy.
type search struct {
	threshold uint64
	found     []Heavy
}

// families searches one family from its root, if it has any traffic.
func (s *search) families(f *family, above uint64) (left uint64) {
	for i := range f.levels[0].hi {
		left += s.conditioned(f, 0, i, above)
	}
	return left
}

// conditioned returns the bytes of node i of level l that no heavy node at or
// below it accounts for, and notes the heavy ones. A node under the threshold
// can't have heavy descendants, so that most of the tree is never visited.
func (s *search) conditioned(f *family, l, i int, above uint64) uint64 {
	v := &f.levels[l]
	if v.bytes[i] < s.threshold {
		return v.bytes[i]
	}
	self := v.self(i)
	left := self
	from, to := v.children(i)
	for child := from; child < to; child++ {
		left += s.conditioned(f, l+1, child, above+self)
	}
	if left < s.threshold {
		return left
	}
	s.found = append(s.found, Heavy{Node: f.node(l, i, above), Conditioned: left})
	return 0
}
