package store

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
	"sort"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// content is what a span of time holds once it is decided who counts what. It
// isn't changed after it was made, so that readers need no lock. Counted bytes
// are conserved:
//
//	counted = flows + other + folded = masses of either dimension
type content struct {
	counted epoch.Count
	folded  epoch.Count // of counted: its exporter gave up the flow
	other   epoch.Count // of counted: this bucket gave up the flow

	// What may be traffic of its own, or may be counted already: it widens the
	// intervals and counts nowhere.
	remainder epoch.Count // exporters don't know its flows
	uncertain epoch.Count // another host should have counted it
	hidden    uint64      // bytes among the duplicates of a host that forwards

	doubtful uint64 // bytes of counted: may be there twice

	// What was collected, and, once it is compact, what keeps of it.
	flows    []counted
	standIns []epoch.Ladder // of masses: the fleet's classes
	masses   [len(flow.Dimensions)][]hhh.Mass
	distinct distinct
	packed   packed
	matrix   func() *matrix // of all that was collected

	newest time.Time // the end of the newest epoch
}

// allFlows yields the flows. Each is valid until the next one.
func (c *content) allFlows() iter.Seq[*counted] {
	return func(yield func(*counted) bool) {
		for i := range c.flows {
			if !yield(&c.flows[i]) {
				return
			}
		}
		c.packed.flows.all()(yield)
	}
}

// counted is a flow and who counted it.
type counted struct {
	flow.Key
	directions directions // as the exporter saw it
	exporter   uint32     // its id, or severalExporters
	epoch.Count
	doubtful uint64 // bytes of it that may be there twice
	spared   uint64 // bytes of what gave up its flow or is hidden: not of this one
}

const severalExporters = ^uint32(0)

// addDoubts notes what the epoch doesn't know of what isn't under its flows.
func (c *content) addDoubts(e *epoch.Epoch) {
	c.remainder.Add(e.Remainder())
	c.hidden += e.Hidden.Bytes
	c.doubtful += e.Doubtful.Bytes
}

// addFlow counts a host's share of a flow of an epoch. As many bytes of the epoch as
// elsewhere says are counted, or uncertain, and may be of any flow; of those that are
// listed the epoch knows better.
func (c *content) addFlow(x *exporter, f *epoch.Flow, s share, elsewhere uint64) {
	c.uncertain.Add(s.uncertain)
	if s.Count == (epoch.Count{}) {
		return
	}
	c.counted.Add(s.Count)
	c.doubtful += s.doubtful
	c.flows = append(c.flows, counted{f.Key, directionsOf(f.Direction), x.id, s.Count, s.doubtful, elsewhere - min(elsewhere, f.Error)})
	c.masses[flow.Source] = append(c.masses[flow.Source], hhh.Mass{Prefix: hhh.AddrPrefix(f.Source), Count: s.Count})
	c.masses[flow.Destination] = append(c.masses[flow.Destination], hhh.Mass{Prefix: hhh.AddrPrefix(f.Destination), Count: s.Count})
}

// addFolded counts a ladder.
func (c *content) addFolded(ladder *epoch.Ladder) {
	for i := range ladder.Entries {
		entry := &ladder.Entries[i]
		if ladder.Dimension == flow.Source {
			c.counted.Add(entry.Count)
			c.folded.Add(entry.Count)
		}
		mass := hhh.Mass{Prefix: hhh.FromNetip(entry.Prefix), Count: entry.Count}
		c.masses[ladder.Dimension] = append(c.masses[ladder.Dimension], mass)
	}
}

// addUncertain notes a ladder that isn't counted. Both dimensions' ladders hold
// the same bytes.
func (c *content) addUncertain(ladder *epoch.Ladder) {
	if ladder.Dimension != flow.Source {
		return
	}
	for i := range ladder.Entries {
		c.uncertain.Add(ladder.Entries[i].Count)
	}
}

// bounds is what a content may keep.
type bounds struct {
	flows, prefixes int // the latter in a dimension
	bytes           int // of all lists
}

// times is the bounds of a content that may keep n times as much.
func (b bounds) times(n int) bounds { return bounds{b.flows * n, b.prefixes * n, b.bytes * n} }

// merged returns the compact sum of several contents, which stay as they are.
func merged(within bounds, contents ...*content) *content {
	sum := &content{distinct: make(distinct)}
	var flows [][]counted
	var masses [len(flow.Dimensions)][][]hhh.Mass
	for _, c := range contents {
		sum.addSums(c)
		flows = append(flows, combineFlows(slices.Clone(c.flows)), c.packed.flows.list())
		for d := range masses {
			masses[d] = append(masses[d], hhh.Combine(slices.Clone(c.masses[d])), c.packed.masses[d].AppendTo(nil))
		}
		sum.distinct.union(c.distinct)
		sum.distinct.unpack(c.packed.distinct)
	}
	sum.setMatrix(contents)
	sum.flows = mergeFlows(flows)
	for d := range masses {
		sum.masses[d] = hhh.Merge(masses[d]...)
	}
	sum.pack(within)
	return sum
}

// addSums adds all but the lists.
func (c *content) addSums(other *content) {
	c.counted.Add(other.counted)
	c.folded.Add(other.folded)
	c.other.Add(other.other)
	c.remainder.Add(other.remainder)
	c.uncertain.Add(other.uncertain)
	c.hidden += other.hidden
	c.doubtful += other.doubtful
	c.newest = later(c.newest, other.newest)
}

// compact adds up equal flows and equal prefixes and brings all within bounds.
func (c *content) compact(within bounds) {
	c.setMatrix([]*content{c})
	c.flows = sortFlows(c.keepLargest(addUpFlows(c.flows), within.flows))
	for d := range c.masses {
		c.masses[d] = hhh.Combine(c.masses[d])
	}
	c.pack(within)
}

// pack brings combined lists within bounds and packs them: flows beyond them go
// into other, the smallest prefixes fold. Up to half is for sketches, a quarter of
// what they and the matrix leave for flows, which are in the prefixes too.
func (c *content) pack(within bounds) {
	c.packed.distinct = c.distinct.pack(within.bytes / 2)
	left := max(within.bytes-c.packed.distinctSize()-c.matrix().size(), 0)
	flows := c.keepLargest(c.flows, within.flows)
	for c.packed.flows = packFlows(flows); len(c.packed.flows.encoded) > left/4; c.packed.flows = packFlows(flows) {
		flows = c.keepLargest(flows, fewer(len(flows), left/4, len(c.packed.flows.encoded)))
	}
	left = (left - len(c.packed.flows.encoded)) / len(c.masses)
	for d := range c.masses {
		masses := hhh.FoldSmallest(c.masses[d], within.prefixes)
		for c.packed.masses[d] = hhh.Pack(masses); c.packed.masses[d].Size() > left && len(masses) > leastPrefixes; c.packed.masses[d] = hhh.Pack(masses) {
			masses = hhh.FoldSmallest(masses, max(fewer(len(masses), left, c.packed.masses[d].Size()), leastPrefixes))
		}
	}
	c.flows, c.masses, c.distinct, c.standIns = nil, [len(flow.Dimensions)][]hhh.Mass{}, nil, nil
}

// leastPrefixes is how many prefixes any content may keep.
const leastPrefixes = 16

// fewer returns how many of n records of a size fit a smaller one.
func fewer(n, fit, size int) int { return int(float64(n) * float64(fit) / float64(size) * 0.98) }

// keepLargest returns the largest flows in the order they were in; the others only
// count.
func (c *content) keepLargest(flows []counted, bound int) []counted {
	switch {
	case len(flows) <= bound:
		return flows
	case bound <= 0:
		c.other.Add(countOf(flows))
		return nil
	}
	sizes := make([]uint64, len(flows))
	for i := range flows {
		sizes[i] = flows[i].Bytes
	}
	slices.Sort(sizes)
	least := sizes[len(sizes)-bound]
	equal := bound - (len(sizes) - sort.Search(len(sizes), func(i int) bool { return sizes[i] > least }))
	kept := make([]counted, 0, bound)
	for i := range flows {
		f := &flows[i]
		keep := f.Bytes > least
		if f.Bytes == least && equal > 0 {
			keep = true
			equal--
		}
		if keep {
			kept = append(kept, *f)
		} else {
			c.other.Add(f.Count)
		}
	}
	return kept
}

func countOf(flows []counted) (sum epoch.Count) {
	for i := range flows {
		sum.Add(flows[i].Count)
	}
	return sum
}

// combineFlows sorts flows by key and adds up equal ones, in place.
func combineFlows(flows []counted) []counted { return sortFlows(addUpFlows(flows)) }

func sortFlows(flows []counted) []counted {
	slices.SortFunc(flows, func(a, b counted) int { return compareKeys(&a.Key, &b.Key) })
	return flows
}

// addUpFlows adds up equal flows, in place. They are in the order of their first.
func addUpFlows(flows []counted) []counted {
	at := make(map[flow.Key]int, len(flows))
	combined := flows[:0]
	for i := range flows {
		if j, known := at[flows[i].Key]; known {
			combined[j].add(&flows[i])
			continue
		}
		at[flows[i].Key] = len(combined)
		combined = append(combined, flows[i])
	}
	return combined
}

// add adds up two counts of one flow.
func (f *counted) add(other *counted) {
	f.Count.Add(other.Count)
	f.doubtful += other.doubtful
	f.spared += other.spared
	f.directions |= other.directions
	if f.exporter != other.exporter {
		f.exporter = severalExporters
	}
}

// mergeFlows adds up combined lists to one.
func mergeFlows(lists [][]counted) []counted {
	for len(lists) > 1 {
		var halves [][]counted
		for ; len(lists) > 1; lists = lists[2:] {
			halves = append(halves, mergeTwo(lists[0], lists[1]))
		}
		lists = append(halves, lists...)
	}
	if len(lists) == 0 {
		return nil
	}
	return lists[0]
}

func mergeTwo(a, b []counted) []counted {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	sum := make([]counted, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := compareKeys(&a[0].Key, &b[0].Key); {
		case c < 0:
			sum, a = append(sum, a[0]), a[1:]
		case c > 0:
			sum, b = append(sum, b[0]), b[1:]
		default:
			sum = append(sum, a[0])
			sum[len(sum)-1].add(&b[0])
			a, b = a[1:], b[1:]
		}
	}
	return append(append(sum, a...), b...)
}

func compareKeys(a, b *flow.Key) int {
	if c := bytes.Compare(a.Source[:], b.Source[:]); c != 0 {
		return c
	}
	if c := bytes.Compare(a.Destination[:], b.Destination[:]); c != 0 {
		return c
	}
	return cmp.Compare(portsAndProtocol(a), portsAndProtocol(b))
}

func portsAndProtocol(k *flow.Key) uint64 {
	return uint64(k.SourcePort)<<32 | uint64(k.DestinationPort)<<16 | uint64(k.Protocol)
}
