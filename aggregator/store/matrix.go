package store

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"unsafe"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

// matrix is a content's traffic by the named networks of its source and destination.
// Its cells add up to all that is counted.
//
// What has no flow any more, the rest, is known by source and by destination apart.
// With r of it from one network and s to another, of R in all, at least r+s-R is from
// the one to the other (Fréchet's lower bound), which is certain: under a flood it is
// most, as nearly all of R goes to one network. What is left of r counts as from
// there to networks.Unknown. A prefix tells its network unless parts of it have
// another name.
type matrix struct {
	cells []cell                         // by pair
	rest  [len(flow.Dimensions)][]restOf // what has no flow, by network
}

// size is the bytes of memory that it takes.
func (m *matrix) size() int {
	n := len(m.cells) * int(unsafe.Sizeof(cell{}))
	for d := range m.rest {
		n += len(m.rest[d]) * int(unsafe.Sizeof(restOf{}))
	}
	return n
}

// pair is a source's and a destination's network by their numbers in a namer.
type pair struct{ source, destination uint16 }

func comparePairs(a, b pair) int {
	return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.destination, b.destination))
}

// cell is the traffic of a pair of networks.
type cell struct {
	pair
	epoch.Count             // certain traffic included
	certain     epoch.Count // of it: has no flow
	doubtful    uint64      // bytes of it that may be there twice
}

// restOf is what of a network has no flow.
type restOf struct {
	network uint16
	epoch.Count
}

// namer numbers the names of networks, and finds the number of an address. Numbers
// stay when other networks get names; names that are gone keep theirs.
type namer struct {
	names   []string // by number; may be shared, elements never change
	table   *networks.Table
	numbers []uint16 // by those of the table
}

// Numbers that are always there.
const unnamed, unknown uint16 = 0, 1

func newNamer(table *networks.Table) *namer {
	return (&namer{names: []string{networks.Unnamed, networks.Unknown}}).with(table)
}

// with returns a namer for other networks.
func (n *namer) with(table *networks.Table) *namer {
	next := &namer{names: slices.Clip(n.names), table: table}
	for i := range table.Len() {
		name := table.Name(uint16(i))
		number := slices.Index(next.names, name)
		if number < 0 {
			number = len(next.names)
			next.names = append(next.names, name)
		}
		next.numbers = append(next.numbers, uint16(number))
	}
	return next
}

// trivial says that no network has a name.
func (n *namer) trivial() bool { return n.table.Len() == 1 }

func (n *namer) address(a [16]byte) uint16 {
	return n.numbers[n.table.Lookup(netip.AddrFrom16(a).Unmap())]
}

// prefix returns the number of the network that all of a prefix is in, or unknown.
func (n *namer) prefix(p hhh.Prefix) uint16 {
	number, ok := n.lookup(p.Netip())
	if !ok {
		return unknown
	}
	return n.numbers[number]
}

func (n *namer) lookup(p netip.Prefix) (number uint16, ok bool) {
	switch {
	case !p.IsValid(): // the root of both families
		return 0, false
	case p.IsSingleIP():
		return n.table.Lookup(p.Addr()), true
	}
	return n.table.LookupPrefix(p)
}

// setNames has the content's matrix made with these names, when it is needed.
func (c *content) setNames(names *namer) {
	c.matrix = sync.OnceValue(func() *matrix { return names.matrix(c) })
}

// setMatrix makes the matrix of a content the sum of others'. It has to be done
// before flows are given up, which only then are all there.
func (c *content) setMatrix(contents []*content) {
	sum := &matrix{}
	for _, other := range contents {
		sum.add(other.matrix())
	}
	sum.cells = slices.Clone(sum.cells) // it keeps, without what it grew by
	c.matrix = func() *matrix { return sum }
}

// matrix makes the matrix of a content.
func (n *namer) matrix(c *content) *matrix {
	if n.trivial() {
		return &matrix{cells: []cell{{pair: pair{unnamed, unnamed}, Count: c.counted, doubtful: c.doubtful}}}
	}
	cells := make(map[pair]*cell)
	at := func(p pair) *cell {
		if cells[p] == nil {
			cells[p] = &cell{pair: p}
		}
		return cells[p]
	}
	doubtful := c.doubtful
	for i := range c.flows {
		f := &c.flows[i]
		to := at(pair{n.address(f.Source), n.address(f.Destination)})
		to.Add(f.Count)
		to.doubtful += f.doubtful
		doubtful -= min(doubtful, f.doubtful)
	}
	m := &matrix{}
	if rest := less(c.counted, sumOfCells(cells)); rest != (epoch.Count{}) {
		m.rest = n.rest(c, cells)
		join(m, rest, doubtful, at)
	}
	for _, to := range cells {
		m.cells = append(m.cells, *to)
	}
	slices.SortFunc(m.cells, func(a, b cell) int { return comparePairs(a.pair, b.pair) })
	return m
}

// join adds the rest to the cells. doubtful bytes of it may be there twice.
func join(m *matrix, rest epoch.Count, doubtful uint64, at func(pair) *cell) {
	for _, from := range m.rest[flow.Source] {
		left := from.Count
		for _, to := range m.rest[flow.Destination] {
			certain := least(overlap(from, to, rest), left)
			if certain == (epoch.Count{}) {
				continue
			}
			both := at(pair{from.network, to.network})
			both.Add(certain)
			both.certain.Add(certain)
			both.doubtful += min(certain.Bytes, doubtful)
			left.Sub(certain)
		}
		if left != (epoch.Count{}) {
			at(pair{from.network, unknown}).Add(left)
		}
	}
}

// overlap is what at least is from one network to another.
func overlap(from, to restOf, all epoch.Count) epoch.Count {
	if from.network == unknown || to.network == unknown {
		return epoch.Count{}
	}
	return less(from.Count, less(all, to.Count))
}

// less returns what a has more than b.
func less(a, b epoch.Count) epoch.Count {
	return epoch.Count{Packets: a.Packets - min(a.Packets, b.Packets), Bytes: a.Bytes - min(a.Bytes, b.Bytes)}
}

func least(a, b epoch.Count) epoch.Count {
	return epoch.Count{Packets: min(a.Packets, b.Packets), Bytes: min(a.Bytes, b.Bytes)}
}

func sumOfCells(cells map[pair]*cell) (sum epoch.Count) {
	for _, c := range cells {
		sum.Add(c.Count)
	}
	return sum
}

// rest returns what of the networks isn't in the flows' cells, in each dimension. The
// content isn't compact yet: its masses hold each flow with its address.
func (n *namer) rest(c *content, cells map[pair]*cell) (rest [len(flow.Dimensions)][]restOf) {
	for _, d := range flow.Dimensions {
		masses := make([]epoch.Count, len(n.names))
		for i := range c.masses[d] {
			masses[n.prefix(c.masses[d][i].Prefix)].Add(c.masses[d][i].Count)
		}
		for p, c := range cells {
			masses[p.network(d)] = less(masses[p.network(d)], c.Count)
		}
		for network, c := range masses {
			if c != (epoch.Count{}) {
				rest[d] = append(rest[d], restOf{uint16(network), c})
			}
		}
	}
	return rest
}

func (p pair) network(d flow.Dimension) uint16 {
	if d == flow.Source {
		return p.source
	}
	return p.destination
}

// add adds another matrix, made with the same numbers.
func (m *matrix) add(other *matrix) {
	m.cells = addSorted(m.cells, other.cells, func(a, b *cell) int { return comparePairs(a.pair, b.pair) }, (*cell).add)
	for d := range m.rest {
		m.rest[d] = addSorted(m.rest[d], other.rest[d],
			func(a, b *restOf) int { return cmp.Compare(a.network, b.network) },
			func(to, from *restOf) { to.Add(from.Count) })
	}
}

func (c *cell) add(other *cell) {
	c.Add(other.Count)
	c.certain.Add(other.certain)
	c.doubtful += other.doubtful
}

// addSorted returns the union of two sorted lists, equal elements added up.
func addSorted[E any](a, b []E, compare func(a, b *E) int, add func(to, from *E)) []E {
	union := make([]E, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		switch c := compare(&a[0], &b[0]); {
		case c < 0:
			union, a = append(union, a[0]), a[1:]
		case c > 0:
			union, b = append(union, b[0]), b[1:]
		default:
			union, a = append(union, a[0]), a[1:]
			add(&union[len(union)-1], &b[0])
			b = b[1:]
		}
	}
	return append(append(union, a...), b...)
}

// destinations returns all that goes to each network. Unlike the sum of a column it
// has what goes there from where the cells don't tell, which is in another column.
func (m *matrix) destinations() map[uint16]epoch.Count {
	all := make(map[uint16]epoch.Count)
	add := func(network uint16, c epoch.Count) {
		sum := all[network]
		sum.Add(c)
		all[network] = sum
	}
	for i := range m.cells {
		if c := &m.cells[i]; c.destination != unknown {
			add(c.destination, less(c.Count, c.certain))
		}
	}
	for _, r := range m.rest[flow.Destination] {
		add(r.network, r.Count)
	}
	return all
}
