package epoch

import (
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Interval holds the truth, always: Lower is what was counted for something, Upper
// adds what may have been folded of it or lost its flow. In bytes.
type Interval struct{ Lower, Upper uint64 }

// Contains says whether a number of bytes is in the interval.
func (i Interval) Contains(bytes uint64) bool { return i.Lower <= bytes && bytes <= i.Upper }

// FlowInterval is that of the bytes of one of e.Flows. No flow had more folded of
// it than all that was folded.
func (e *Epoch) FlowInterval(f *Flow) Interval {
	folded := min(f.Error, e.Folded(flow.Source).Bytes)
	return Interval{f.Bytes, f.Bytes + folded + e.Remainder().Bytes}
}

// PrefixInterval is that of the bytes of a prefix's flows in a dimension. What
// was folded into a shorter prefix that contains it may have been its own.
func (e *Epoch) PrefixInterval(d flow.Dimension, p netip.Prefix) Interval {
	var below, above uint64
	for i := range e.Flows {
		if p.Contains(e.Flows[i].Addr(d)) {
			below += e.Flows[i].Bytes
		}
	}
	for i := range e.Ladders {
		if e.Ladders[i].Dimension != d {
			continue
		}
		for j := range e.Ladders[i].Entries {
			switch folded := &e.Ladders[i].Entries[j]; {
			case folded.Bits() >= p.Bits() && p.Contains(folded.Addr()):
				below += folded.Bytes
			case folded.Bits() < p.Bits() && folded.Contains(p.Addr()):
				above += folded.Bytes
			}
		}
	}
	return Interval{below, below + above + e.Remainder().Bytes}
}
