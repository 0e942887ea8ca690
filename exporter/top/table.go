package top

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// measure is what rates, shares and the order are taken of.
type measure uint8

const (
	inBytes measure = iota
	inPackets
)

func (m measure) of(c epoch.Count) uint64 {
	if m == inPackets {
		return c.Packets
	}
	return c.Bytes
}

// order is by what a table's rows are sorted.
type order uint8

const (
	byBytes order = iota
	byPackets
	byName
)

// orders are the names of the orders.
var orders = []string{"bytes", "packets", "name"}

// query is what is asked of the history.
type query struct {
	view    *view
	window  int // index of windows: of shares and the order
	filter  filter
	order   order
	measure measure // of shares, and where equal names or none are ordered
	reverse bool
	names   bool // of services instead of numbers of ports
}

// row is one line of a table.
type row struct {
	label func(names bool) []string // one text for each of the view's headings
	text  string                    // rows by name are ordered by it first,
	key   flow.Key                  // then by this
	sums  sums
	own   sums          // of sums, what is in no other row; shares are of it
	extra []epoch.Count // of the window; one for each of the view's extra headings
}

// rest is traffic that is in no row, and why.
type rest struct {
	text string
	sums sums
}

// table is the answer to a query. In each window what the rows have of their own
// and the rests add up to the total.
type table struct {
	query
	covered [len(windows)]time.Duration
	rows    []*row
	rests   []rest
	total   sums
	totals  *totals
}

// tabulate answers a query.
func tabulate(h *history, q query) *table {
	g := &gathering{history: h, table: &table{query: q, covered: h.covered(), totals: h.totals()}}
	q.view.gather(g)
	g.sort()
	return g.table
}

// gathering is a table in the making.
type gathering struct {
	*table
	history          *history
	filtered, folded sums
}

// addRests ends a table whose rows are made of flows and of what was folded.
func (g *gathering) addRests() {
	g.total = g.totals.counted()
	g.addRest("filtered out", g.filtered)
	g.addRest("folded into prefixes", g.folded)
	g.addRest("without a 5-tuple", g.totals.other)
	g.addRest("remainder, ring full", g.totals.remainder)
}

// addRest adds a rest that isn't empty.
func (g *gathering) addRest(text string, s sums) {
	if s != (sums{}) {
		g.rests = append(g.rests, rest{text, s})
	}
}

// add adds a row that shares no traffic with others.
func (g *gathering) add(r *row) {
	r.own = r.sums
	g.rows = append(g.rows, r)
}

// sort brings the rows into their order: the largest, or the first name, on top.
func (g *gathering) sort() {
	slices.SortFunc(g.rows, func(a, b *row) int {
		c := g.compare(a, b)
		if g.reverse {
			return -c
		}
		return c
	})
}

func (g *gathering) compare(a, b *row) int {
	if g.order != byName {
		if c := cmp.Compare(g.measure.of(b.sums[g.window]), g.measure.of(a.sums[g.window])); c != 0 {
			return c
		}
	}
	if c := strings.Compare(a.text, b.text); c != 0 {
		return c
	}
	return compareKeys(&a.key, &b.key)
}

func compareKeys(a, b *flow.Key) int {
	var left, right [flow.KeyLen]byte
	a.Canonical(&left)
	b.Canonical(&right)
	return slices.Compare(left[:], right[:])
}

// eachFlow calls take with the flows of each epoch that pass the filter and with the
// shortest window that they are in.
func (g *gathering) eachFlow(take func(key *flow.Key, shortest int, c epoch.Count)) {
	g.history.each(func(e *epoch.Epoch, shortest int) {
		for i := range e.Flows {
			f := &e.Flows[i]
			if g.filter != nil {
				if s := flowSubject(&f.Key); g.filter(&s) != yes {
					g.filtered.addFrom(shortest, f.Count)
					continue
				}
			}
			take(&f.Key, shortest, f.Count)
		}
	})
}

// eachFolded calls take with the prefixes of a dimension to which traffic was folded
// that is sure to pass the filter, likewise; what may pass it is in g.folded.
func (g *gathering) eachFolded(d flow.Dimension, take func(p netip.Prefix, shortest int, c epoch.Count)) {
	g.history.each(func(e *epoch.Epoch, shortest int) {
		for i := range e.Ladders {
			if e.Ladders[i].Dimension != d {
				continue
			}
			for _, p := range e.Ladders[i].Entries {
				switch g.verdictOn(d, p.Prefix) {
				case yes:
					take(p.Prefix, shortest, p.Count)
				case unknown:
					g.folded.addFrom(shortest, p.Count)
				case no:
					g.filtered.addFrom(shortest, p.Count)
				}
			}
		}
	})
}

// verdictOn is the filter's on what was folded to a prefix of a dimension.
func (g *gathering) verdictOn(d flow.Dimension, p netip.Prefix) verdict {
	if d == flow.Destination {
		return g.filter.verdict(&subject{destination: p})
	}
	return g.filter.verdict(&subject{source: p})
}

// foldAll counts as folded all that was, where prefixes aren't told apart.
func (g *gathering) foldAll() {
	g.eachFolded(flow.Source, func(_ netip.Prefix, shortest int, c epoch.Count) { g.folded.addFrom(shortest, c) })
}
