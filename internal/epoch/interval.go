package epoch

import (
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Interval holds the truth, always: Lower is what was counted for something, less
// what of it may be counted already; Upper adds to all that was counted what may
// have been folded of it, lost its flow, or be hidden. In bytes.
//
// Where a host forwards, a packet may be counted in the epoch in which one point saw
// it and be doubtful or hidden in the next one, in which another did: the truth is
// then in the sum of the epochs' intervals.
type Interval struct{ Lower, Upper uint64 }

// Contains says whether a number of bytes is in the interval.
func (i Interval) Contains(bytes uint64) bool { return i.Lower <= bytes && bytes <= i.Upper }

// FlowInterval is that of the bytes of one of e.Flows.
func (e *Epoch) FlowInterval(f *Flow) Interval {
	return Interval{f.Bytes - f.Doubtful, f.Bytes + e.beyond(f) + e.Remainder().Bytes}
}

// beyond is how many bytes of a flow may be elsewhere in the epoch: no flow has more
// than all that was folded or is hidden.
func (e *Epoch) beyond(f *Flow) uint64 {
	return min(f.Error, e.Folded(flow.Source).Bytes+e.Hidden.Bytes)
}

// PrefixInterval is that of the bytes of a prefix's flows in a dimension. What
// was folded into a shorter prefix that contains it may have been its own.
func (e *Epoch) PrefixInterval(d flow.Dimension, p netip.Prefix) Interval {
	var counted, doubtful, below, above uint64
	for i := range e.Flows {
		if p.Contains(e.Flows[i].Addr(d)) {
			counted += e.Flows[i].Bytes
			doubtful += e.Flows[i].Doubtful
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
	return Interval{
		Lower: counted - doubtful + below - min(below, e.Doubtful.Bytes),
		Upper: counted + below + above + e.Remainder().Bytes + e.Hidden.Bytes,
	}
}
