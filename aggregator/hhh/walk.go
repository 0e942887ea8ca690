package hhh

import "sort"

// walk makes the levels of a family from sorted masses. It goes through all prefixes
// from the left to the right, ancestors first; the nodes from the root to where it
// is are open, and what a node has counted goes to its parent when it is closed.
type walk struct {
	lengths []int
	floor   []uint8    // the level of each prefix length
	lists   [][]record // what remains of the masses, by level
	levels  []level
	path    []record // the open nodes with their counts so far, by level
	self    []uint64 // of those, what stands at the node itself
	open    int      // how many levels of the path are open
}

func newWalk(c *collected) *walk {
	n := len(c.lengths)
	w := &walk{
		lengths: c.lengths, floor: c.floor, lists: c.levels,
		levels: make([]level, n), path: make([]record, n), self: make([]uint64, n),
	}
	for l, nodes := range w.count() {
		w.levels[l] = newLevel(c.lengths[l], nodes)
		if l < n-1 {
			w.levels[l].inner, w.levels[l].first = true, make([]uint32, 0, nodes+1)
			if len(c.levels[l]) > 0 {
				w.levels[l].selfBytes = make([]uint64, 0, nodes)
			}
		}
	}
	return w
}

// newLevel returns an empty level with room for n prefixes.
func newLevel(length, n int) level {
	v := level{length: length, hi: make([]uint64, 0, n), bytes: make([]uint64, 0, n), packets: make([]uint64, 0, n)}
	if length > 64 {
		v.lo = make([]uint64, 0, n)
	}
	return v
}

// append adds the next prefix.
func (v *level) append(node *record, self uint64) {
	v.hi = append(v.hi, node.hi)
	if v.lo != nil {
		v.lo = append(v.lo, node.lo)
	}
	v.bytes = append(v.bytes, node.bytes)
	v.packets = append(v.packets, node.packets)
	if v.selfBytes != nil {
		v.selfBytes = append(v.selfBytes, self)
	}
}

// count returns how many nodes each level gets at most: one for each mass there, and
// one wherever two masses of a level below differ in so many bits. Memory is
// allocated once then.
func (w *walk) count() []int {
	nodes := make([]int, len(w.lengths))
	for l, masses := range w.lists {
		var shared [129]int // how many masses share so many bits with the one before
		for i := 1; i < len(masses); i++ {
			shared[common(&masses[i-1], &masses[i])]++
		}
		fewer := min(1, len(masses))
		bits := 0
		for at := range w.lengths[:l+1] {
			for ; bits < w.lengths[at]; bits++ {
				fewer += shared[bits]
			}
			nodes[at] += fewer
		}
	}
	return nodes
}

// masses walks over all masses.
func (w *walk) masses() {
	for l := w.nextInner(); l >= 0; l = w.nextInner() {
		inner := &w.lists[l][0]
		w.leaves(inner)
		w.add(inner, l)
		w.lists[l] = w.lists[l][1:]
	}
	w.leaves(nil)
	w.close(0)
	for l := range w.levels {
		if v := &w.levels[l]; v.inner {
			v.first = append(v.first, uint32(len(w.levels[l+1].hi)))
		}
	}
}

// nextInner returns the level of the first mass in order that isn't on the last
// level, -1 if there is none.
func (w *walk) nextInner() int {
	next := -1
	for l, masses := range w.lists[:len(w.lists)-1] {
		if len(masses) > 0 && (next < 0 || less(&masses[0], &w.lists[next][0])) {
			next = l
		}
	}
	return next
}

// leaves adds the masses of the last level that come before one of another level, or
// all of them.
func (w *walk) leaves(inner *record) {
	last := len(w.lists) - 1
	masses := w.lists[last]
	n := len(masses)
	if inner != nil {
		n = sort.Search(n, func(i int) bool { return !less(&masses[i], inner) })
	}
	for i := range masses[:n] {
		w.add(&masses[i], last)
	}
	w.lists[last] = masses[n:]
}

// add adds a mass of a level, no prefix before where the walk is.
func (w *walk) add(m *record, l int) {
	keep := 0
	if w.open > 0 {
		shared := common(m, &w.path[w.open-1])
		keep = min(w.open, int(w.floor[min(shared, len(w.floor)-1)])+1)
	}
	if keep <= l || w.open > l+1 {
		w.close(keep)
		w.enter(m, l)
	}
	node := &w.path[l]
	node.bytes += m.bytes
	node.packets += m.packets
	w.self[l] += m.bytes
}

// close leaves the open nodes from a level on.
func (w *walk) close(from int) {
	for l := w.open - 1; l >= from; l-- {
		node := &w.path[l]
		w.levels[l].append(node, w.self[l])
		if l > 0 {
			w.path[l-1].bytes += node.bytes
			w.path[l-1].packets += node.packets
		}
	}
	w.open = min(w.open, from)
}

// enter opens the nodes down to a level that a mass is in.
func (w *walk) enter(m *record, l int) {
	for ; w.open <= l; w.open++ {
		hi, lo := mask(w.lengths[w.open])
		w.path[w.open], w.self[w.open] = record{hi: m.hi & hi, lo: m.lo & lo}, 0
		if v := &w.levels[w.open]; v.inner {
			v.first = append(v.first, uint32(len(w.levels[w.open+1].hi)))
		}
	}
}
