package hhh

import "github.com/traffic-monitor-agent/tma/internal/epoch"

// Builder collects masses in any order. It isn't safe for concurrent use.
type Builder struct {
	unknown  uint64
	doubtful uint64
	lists    [][]Mass
	families [2]collected
}

// collected is what came in for one family, by level.
type collected struct {
	family  Family
	lengths []int
	floor   []uint8 // the level of each prefix length
	levels  [][]record
}

// NewBuilder returns an empty builder for a hierarchy of the given levels.
func NewBuilder(levels Levels) *Builder {
	return &Builder{families: [2]collected{
		newCollected(IPv4, levels.IPv4), newCollected(IPv6, levels.IPv6),
	}}
}

func newCollected(f Family, lengths []int) collected {
	return collected{family: f, lengths: lengths, floor: floors(lengths), levels: make([][]record, len(lengths))}
}

// Add adds masses, which must stay as they are until Build. One whose length is
// between two levels goes to the shorter.
func (b *Builder) Add(masses []Mass) { b.lists = append(b.lists, masses) }

// AddUnknown adds bytes of which no prefix is known. They widen every interval
// and count nowhere.
func (b *Builder) AddUnknown(bytes uint64) { b.unknown += bytes }

// AddDoubtful says that so many bytes of the masses may be there twice. They widen
// every interval.
func (b *Builder) AddDoubtful(bytes uint64) { b.doubtful += bytes }

// Build sums everything up. The builder is of no use after that.
func (b *Builder) Build() *Tree {
	t := &Tree{unknown: b.unknown, doubtful: b.doubtful, self: b.distribute()}
	t.total = t.self
	for i := range b.families {
		t.families[i] = b.families[i].build()
		t.families[i].doubtful = b.doubtful
		root := t.families[i].levels[0]
		for j := range root.bytes {
			t.total.Add(epoch.Count{Packets: root.packets[j], Bytes: root.bytes[j]})
		}
	}
	return t
}

// distribute puts all masses into their levels, allocated once, and returns what
// stands at the root.
func (b *Builder) distribute() (root epoch.Count) {
	b.reserve()
	for _, masses := range b.lists {
		for i := range masses {
			m := &masses[i]
			if m.family == Any {
				root.Add(m.Count)
				continue
			}
			c := &b.families[m.family-IPv4]
			at := c.floor[m.length]
			hi, lo := mask(c.lengths[at])
			c.levels[at] = append(c.levels[at], record{m.hi & hi, m.lo & lo, m.Bytes, m.Packets})
		}
	}
	b.lists = nil
	return root
}

// reserve allocates the levels.
func (b *Builder) reserve() {
	var counts [2][129]int
	for _, masses := range b.lists {
		for i := range masses {
			if m := &masses[i]; m.family != Any {
				counts[m.family-IPv4][m.length]++
			}
		}
	}
	for f := range b.families {
		c := &b.families[f]
		sizes := make([]int, len(c.lengths))
		for length, at := range c.floor {
			sizes[at] += counts[f][length]
		}
		for at, n := range sizes {
			c.levels[at] = make([]record, 0, n)
		}
	}
}

// build makes the levels from the longest prefixes up: each level is one linear
// merge of the masses that stand there with the sums of the level below.
func (c *collected) build() family {
	f := family{family: c.family, levels: make([]level, len(c.lengths))}
	last := len(c.lengths) - 1
	f.levels[last] = sumUp(c.lengths[last], c.levels[last])
	for l := last - 1; l >= 0; l-- {
		own := sumUp(c.lengths[l], c.levels[l])
		f.levels[l] = merge(&own, &f.levels[l+1])
	}
	c.levels = nil
	return f
}

// newLevel returns an empty level with room for n prefixes.
func newLevel(length, n int) level {
	v := level{length: length, hi: make([]uint64, 0, n), bytes: make([]uint64, 0, n), packets: make([]uint64, 0, n)}
	if length > 64 {
		v.lo = make([]uint64, 0, n)
	}
	return v
}

// sumUp sorts masses of one length and adds up those of the same prefix. It may
// change the order of masses.
func sumUp(length int, masses []record) level {
	v := newLevel(length, len(masses))
	if length > 32 || len(masses) < radixMinimum {
		sortRecords(masses)
		for i := range masses {
			v.add(&masses[i])
		}
		return v
	}
	for _, word := range radixOrder(masses) {
		v.add(&masses[uint32(word)])
	}
	return v
}

// add adds a mass whose prefix is the level's last one or a later one.
func (v *level) add(m *record) {
	if n := len(v.hi); n > 0 && v.hi[n-1] == m.hi && (v.lo == nil || v.lo[n-1] == m.lo) {
		v.bytes[n-1] += m.bytes
		v.packets[n-1] += m.packets
		return
	}
	v.append(*m)
}

// append adds the next prefix.
func (v *level) append(m record) {
	v.hi = append(v.hi, m.hi)
	if v.lo != nil {
		v.lo = append(v.lo, m.lo)
	}
	v.bytes = append(v.bytes, m.bytes)
	v.packets = append(v.packets, m.packets)
}

// at returns prefix i with its sums.
func (v *level) at(i int) record {
	r := record{hi: v.hi[i], bytes: v.bytes[i], packets: v.packets[i]}
	if v.lo != nil {
		r.lo = v.lo[i]
	}
	return r
}

// merge makes an inner level of the masses that stand there and of the parents
// of the level below.
func merge(own, below *level) level {
	m := merging{own: own, below: below}
	m.maskHi, m.maskLo = mask(own.length)
	n := len(own.hi) + m.countParents()
	v := newLevel(own.length, n)
	v.inner, v.first = true, make([]uint32, 0, n+1)
	if len(own.hi) > 0 {
		v.selfBytes = make([]uint64, 0, n)
	}
	for m.mass < len(own.hi) || m.child < len(below.hi) {
		v.first = append(v.first, uint32(m.child))
		node, self := m.next()
		v.append(node)
		if v.selfBytes != nil {
			v.selfBytes = append(v.selfBytes, self)
		}
	}
	v.first = append(v.first, uint32(m.child))
	return v
}

// merging is how far merge has come in its two sorted inputs.
type merging struct {
	own, below     *level
	mass, child    int
	maskHi, maskLo uint64
}

// next returns the next prefix of either input, what stands at it and what its
// children have added up, and how many bytes stand at it.
func (m *merging) next() (node record, self uint64) {
	parent, hasChild := record{}, m.child < len(m.below.hi)
	if hasChild {
		parent = m.parent(m.child)
	}
	node = parent
	if m.mass < len(m.own.hi) {
		own := m.own.at(m.mass)
		if !hasChild || !less(&parent, &own) {
			node, self = own, own.bytes
			m.mass++
		}
	}
	for m.child < len(m.below.hi) && m.under(m.child, &node) {
		node.bytes += m.below.bytes[m.child]
		node.packets += m.below.packets[m.child]
		m.child++
	}
	return node, self
}

// parent returns the prefix above a child, without sums.
func (m *merging) parent(child int) record {
	r := record{hi: m.below.hi[child] & m.maskHi}
	if m.below.lo != nil {
		r.lo = m.below.lo[child] & m.maskLo
	}
	return r
}

// under says that a child is below a prefix.
func (m *merging) under(child int, node *record) bool {
	return m.below.hi[child]&m.maskHi == node.hi && (m.below.lo == nil || m.below.lo[child]&m.maskLo == node.lo)
}

// countParents counts the distinct parents of the level below, so that memory is
// allocated once.
func (m *merging) countParents() int {
	n, hi, lo := 0, m.below.hi, m.below.lo
	for i := range hi {
		if i == 0 || (hi[i]^hi[i-1])&m.maskHi != 0 || lo != nil && (lo[i]^lo[i-1])&m.maskLo != 0 {
			n++
		}
	}
	return n
}
