package hhh

import (
	"slices"
	"sort"
)

// Extent says how much of a tree to show.
type Extent struct {
	MinShare float64 // of the bytes of the root that is shown, 0 to 1
	Levels   int     // of prefixes below it; 0 for all
	MaxNodes int     // the greatest so many; 0 for all
}

// Zoom returns the view of a node, as View does of the root, and the bytes from which
// on prefixes are in it. MaxNodes doesn't count rests, of which each node may have one
// child, nor the root of the view and those of the families. A prefix that isn't in the
// tree has an empty view. Its length has to be one of the hierarchy's.
func (t *Tree) Zoom(prefix Prefix, e Extent) (view View, least uint64) {
	p := pruning{levels: e.Levels}
	if p.levels == 0 {
		p.levels = maxLevels
	}
	if prefix.family == Any {
		p.least = max(1, Threshold(e.MinShare, t.total.Bytes))
		var sizes []uint64
		for i := range t.families {
			f := &t.families[i]
			p.sizes(f, 0, 0, len(f.levels[0].hi), p.levels, &sizes)
		}
		p.limit(sizes, e.MaxNodes)
		return p.root(t), p.least
	}
	f := &t.families[prefix.family-IPv4]
	l, i, above, found := f.find(prefix, t.unknown+t.self.Bytes)
	if !found {
		return View{Node: Node{Prefix: prefix, Upper: above}}, 1
	}
	p.least = max(1, Threshold(e.MinShare, f.levels[l].bytes[i]))
	from, to := f.levels[l].children(i)
	var sizes []uint64
	p.sizes(f, l+1, from, to, p.levels, &sizes)
	p.limit(sizes, e.MaxNodes)
	return p.view(f, l, i, above, p.levels), p.least
}

// sizes collects the bytes of nodes from to to of level l that would be shown, and of
// those below them.
func (p pruning) sizes(f *family, l, from, to, levels int, into *[]uint64) {
	if levels == 0 {
		return
	}
	for i := from; i < to; i++ {
		if v := &f.levels[l]; v.bytes[i] >= p.least {
			*into = append(*into, v.bytes[i])
			first, last := v.children(i)
			p.sizes(f, l+1, first, last, levels-1, into)
		}
	}
}

// limit raises the least bytes until no more than so many nodes have them. As none has
// more than its parent, parents stay.
func (p *pruning) limit(sizes []uint64, nodes int) {
	if nodes == 0 || len(sizes) <= nodes {
		return
	}
	slices.Sort(sizes)
	p.least = sizes[len(sizes)-nodes-1] + 1
}

// find returns where a prefix is, and the mass that stands above it.
func (f *family) find(prefix Prefix, above uint64) (l, i int, masses uint64, found bool) {
	for l = range f.levels {
		v := &f.levels[l]
		at := prefix.Truncate(v.length)
		i = sort.Search(len(v.hi), func(i int) bool { return f.prefix(l, i).Compare(at) >= 0 })
		if i == len(v.hi) || f.prefix(l, i) != at {
			return 0, 0, above, false
		}
		if v.length >= int(prefix.length) {
			return l, i, above, v.length == int(prefix.length)
		}
		above += v.self(i)
	}
	return 0, 0, above, false
}

func (f *family) prefix(l, i int) Prefix {
	v := &f.levels[l]
	p := Prefix{hi: v.hi[i], family: f.family, length: uint8(v.length)}
	if v.lo != nil {
		p.lo = v.lo[i]
	}
	return p
}
