package hhh

import (
	"sync"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Builder collects masses in any order. It isn't safe for concurrent use.
type Builder struct {
	unknown  uint64
	doubtful uint64
	lists    [][]Mass
	packed   []Packed
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

// AddPacked adds masses that are packed.
func (b *Builder) AddPacked(masses Packed) { b.packed = append(b.packed, masses) }

// AddUnknown adds bytes of which no prefix is known. They widen every interval
// and count nowhere.
func (b *Builder) AddUnknown(bytes uint64) { b.unknown += bytes }

// AddDoubtful says that so many bytes of the masses may be there twice. They widen
// every interval.
func (b *Builder) AddDoubtful(bytes uint64) { b.doubtful += bytes }

// Build sums everything up. The builder is of no use after that.
func (b *Builder) Build() *Tree {
	work := workspaces.Get().(*workspace)
	defer workspaces.Put(work)
	t := &Tree{unknown: b.unknown, doubtful: b.doubtful, self: b.distribute(work)}
	t.total = t.self
	for i := range b.families {
		t.families[i] = b.families[i].build(work.spare)
		t.families[i].doubtful = b.doubtful
		root := t.families[i].levels[0]
		for j := range root.bytes {
			t.total.Add(epoch.Count{Packets: root.packets[j], Bytes: root.bytes[j]})
		}
	}
	return t
}

// workspace is memory for sorting, which one build leaves to the next: getting and
// clearing it would take as long as the sorting.
type workspace struct{ records, spare []record }

var workspaces = sync.Pool{New: func() any { return &workspace{} }}

// reserve has room for n records.
func (w *workspace) reserve(n int) {
	if len(w.records) < n {
		w.records, w.spare = make([]record, n), make([]record, n)
	}
}

// distribute puts all masses into their levels and returns what stands at the root.
// Addresses, which most masses are, go into the workspace, those of IPv4 from its
// beginning and those of IPv6 from its end.
func (b *Builder) distribute(work *workspace) (root epoch.Count) {
	total := 0
	for _, masses := range b.lists {
		total += len(masses)
	}
	for _, masses := range b.packed {
		total += masses.n
	}
	work.reserve(total)
	begin, end := 0, len(work.records)
	put := func(m *Mass) {
		r := record{m.hi, m.lo, m.Bytes, m.Packets}
		switch {
		case m.family == IPv4 && m.length == 32:
			work.records[begin] = r
			begin++
		case m.family == IPv6 && m.length == 128:
			end--
			work.records[end] = r
		case m.family == Any:
			root.Add(m.Count)
		default:
			b.families[m.family-IPv4].addInner(r, m.length)
		}
	}
	for _, masses := range b.lists {
		for i := range masses {
			put(&masses[i])
		}
	}
	for _, masses := range b.packed {
		for m := range masses.All() {
			put(&m)
		}
	}
	b.families[0].setLeaves(work.records[:begin])
	b.families[1].setLeaves(work.records[end:])
	b.lists, b.packed = nil, nil
	return root
}

// addInner adds a mass that doesn't stand at an address.
func (c *collected) addInner(r record, length uint8) {
	at := c.floor[length]
	hi, lo := mask(c.lengths[at])
	r.hi, r.lo = r.hi&hi, r.lo&lo
	c.levels[at] = append(c.levels[at], r)
}

func (c *collected) setLeaves(masses []record) { c.levels[len(c.levels)-1] = masses }

// build makes the levels in one walk over all masses in the order of their prefixes.
// spare has room for the masses of any level.
func (c *collected) build(spare []record) family {
	for _, masses := range c.levels {
		if len(masses) > 1 {
			sortRecords(masses, spare[:len(masses)])
		}
	}
	w := newWalk(c)
	w.masses()
	c.levels = nil
	return family{family: c.family, levels: w.levels}
}
