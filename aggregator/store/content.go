package store

import (
	"bytes"
	"cmp"
	"slices"
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

	flows    []counted
	standIns []epoch.Ladder // of masses: the fleet's classes
	masses   [len(flow.Dimensions)][]hhh.Mass
	distinct distinct
	newest   time.Time // the end of the newest epoch
	matrix   func() *matrix
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

// merged returns the sum of several contents, not yet compact.
func merged(contents ...*content) *content {
	sum := &content{distinct: make(distinct)}
	for _, c := range contents {
		sum.counted.Add(c.counted)
		sum.folded.Add(c.folded)
		sum.other.Add(c.other)
		sum.remainder.Add(c.remainder)
		sum.uncertain.Add(c.uncertain)
		sum.hidden += c.hidden
		sum.doubtful += c.doubtful
		sum.flows = append(sum.flows, c.flows...)
		for d := range sum.masses {
			sum.masses[d] = append(sum.masses[d], c.masses[d]...)
		}
		sum.distinct.union(c.distinct)
		if c.newest.After(sum.newest) {
			sum.newest = c.newest
		}
	}
	sum.setMatrix(contents)
	return sum
}

// compact adds up equal flows and equal prefixes and brings both within their
// bounds: flows beyond it go into other, the smallest prefixes fold.
func (c *content) compact(maxFlows, maxPrefixes int) {
	c.flows = combineFlows(c.flows)
	if len(c.flows) > maxFlows {
		slices.SortFunc(c.flows, func(a, b counted) int { return cmp.Compare(b.Bytes, a.Bytes) })
		for i := range c.flows[maxFlows:] {
			c.other.Add(c.flows[maxFlows+i].Count)
		}
		c.flows = slices.Clone(c.flows[:maxFlows])
	}
	for d := range c.masses {
		c.masses[d] = slices.Clip(hhh.FoldSmallest(hhh.Combine(c.masses[d]), maxPrefixes))
	}
}

// combineFlows adds up equal flows, in place.
func combineFlows(flows []counted) []counted {
	slices.SortFunc(flows, func(a, b counted) int { return compareKeys(&a.Key, &b.Key) })
	combined := flows[:0]
	for i := range flows {
		n := len(combined)
		if n == 0 || combined[n-1].Key != flows[i].Key {
			combined = append(combined, flows[i])
			continue
		}
		combined[n-1].Add(flows[i].Count)
		combined[n-1].doubtful += flows[i].doubtful
		combined[n-1].spared += flows[i].spared
		combined[n-1].directions |= flows[i].directions
		if combined[n-1].exporter != flows[i].exporter {
			combined[n-1].exporter = severalExporters
		}
	}
	return combined
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
