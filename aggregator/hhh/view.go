package hhh

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// View is a node with what is worth showing below it. The children's bytes and
// packets always add up to the node's own: what none of them shows is in a last
// child that has Rest set and the node's own prefix. A node without any child
// worth showing has no children at all.
type View struct {
	Node
	Rest     bool
	Children []View
}

// View returns the part of the tree with at least the share of the total,
// 0 <= minShare <= 1, children by bytes descending. With minShare 0 it is the
// whole tree. The root and both families' roots are always there.
func (t *Tree) View(minShare float64) View {
	p := pruning{least: max(1, Threshold(minShare, t.total.Bytes)), levels: maxLevels}
	return p.root(t)
}

// pruning is one run of View.
type pruning struct {
	least  uint64
	levels int // of prefixes shown below a node
}

const maxLevels = 1 + 128 + 1

// root shows everything.
func (p pruning) root(t *Tree) View {
	root := View{Node: t.Root()}
	for i := range t.families {
		if p.levels > 0 {
			root.Children = append(root.Children, p.familyRoot(&t.families[i], t.unknown+t.self.Bytes))
		}
	}
	root.addRest()
	return root
}

// familyRoot shows 0.0.0.0/0 or ::/0, empty where the family has no traffic.
func (p pruning) familyRoot(f *family, above uint64) View {
	if len(f.levels[0].hi) == 0 {
		return View{Node: Node{Prefix: Prefix{family: f.family}, Upper: above}}
	}
	return p.view(f, 0, 0, above, p.levels-1)
}

// view shows node i of level l, and so many levels below it.
func (p pruning) view(f *family, l, i int, above uint64, levels int) View {
	view := View{Node: f.node(l, i, above)}
	from, to := f.levels[l].children(i)
	for child := from; child < to; child++ {
		if levels > 0 && f.levels[l+1].bytes[child] >= p.least {
			view.Children = append(view.Children, p.view(f, l+1, child, above+view.SelfBytes, levels-1))
		}
	}
	slices.SortFunc(view.Children, func(a, b View) int {
		if c := cmp.Compare(b.Bytes, a.Bytes); c != 0 {
			return c
		}
		return a.Compare(b.Prefix)
	})
	view.addRest()
	return view
}

// addRest appends what the children don't show. Mass that stands at the node
// itself may belong to a child that is shown, so it isn't in the lower bound; nor is
// as much as is doubtful of the node.
func (v *View) addRest() {
	if len(v.Children) == 0 {
		return
	}
	rest := v.Count
	for i := range v.Children {
		rest.Sub(v.Children[i].Count)
	}
	if rest == (epoch.Count{}) {
		return
	}
	least := rest.Bytes - v.SelfBytes
	v.Children = append(v.Children, View{Rest: true, Node: Node{
		Prefix: v.Prefix, Count: rest, SelfBytes: v.SelfBytes,
		Lower: least - min(least, v.Bytes-v.Lower), Upper: rest.Bytes + (v.Upper - v.Bytes),
	}})
}

// TopAddresses returns the k addresses with the most bytes, descending, then by
// prefix.
func (t *Tree) TopAddresses(k int) []Node {
	var top leastFirst
	for i := range t.families {
		t.addresses(&t.families[i], t.unknown+t.self.Bytes, func(n Node) { top.offer(n, k) })
	}
	slices.SortFunc(top, func(a, b Node) int { return -compareNodes(a, b) })
	return top
}

// addresses calls visit for every address of a family.
func (t *Tree) addresses(f *family, above uint64, visit func(Node)) {
	last := len(f.levels) - 1
	var walk func(l, i int, above uint64)
	walk = func(l, i int, above uint64) {
		if l == last {
			visit(f.node(l, i, above))
			return
		}
		from, to := f.levels[l].children(i)
		for child := from; child < to; child++ {
			walk(l+1, child, above+f.levels[l].self(i))
		}
	}
	for i := range f.levels[0].hi {
		walk(0, i, above)
	}
}

// leastFirst is a heap of the best nodes so far, the least of them on top.
type leastFirst []Node

func (h *leastFirst) offer(n Node, k int) {
	switch {
	case h.Len() < k:
		heap.Push(h, n)
	case k > 0 && compareNodes(n, (*h)[0]) > 0:
		(*h)[0] = n
		heap.Fix(h, 0)
	}
}

// compareNodes is positive where a ranks above b.
func compareNodes(a, b Node) int {
	if c := cmp.Compare(a.Bytes, b.Bytes); c != 0 {
		return c
	}
	return b.Compare(a.Prefix)
}

func (h leastFirst) Len() int           { return len(h) }
func (h leastFirst) Less(i, j int) bool { return compareNodes(h[i], h[j]) < 0 }
func (h leastFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *leastFirst) Push(x any)        { *h = append(*h, x.(Node)) }

// Pop removes the last element, as container/heap asks.
func (h *leastFirst) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
