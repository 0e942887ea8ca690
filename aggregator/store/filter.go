package store

import (
	"iter"
	"net/netip"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

// Filter selects the flows for which all of it holds. The zero value selects
// everything.
type Filter struct {
	Exporters       []string // one of them counted the flow
	Direction       *flow.Direction
	Protocol        *uint8
	Port            *uint16 // of either end; protocols without ports have none
	SourcePort      *uint16 // as in the key, so that for ICMP it is the type
	DestinationPort *uint16
	Either          Ends
	Source          Ends
	Destination     Ends
	Networks        *networks.Table // needed if any of the ends has a Network
}

// Ends are the addresses in a prefix and in a named network. The zero value is all.
type Ends struct {
	Prefix  netip.Prefix // all if it isn't valid
	Network string       // all if it is empty
}

// Filter returns the part of a window, of which nothing was filtered yet, that a
// filter selects. What has no flow any more is selected by the only question that it
// can answer, that for its own address; otherwise it is Unattributed, as far as its
// address doesn't say that the filter can't select it. Remainder and Uncertain are
// those of the whole window, and distinct things aren't filtered.
//
// Where only one end is asked for, Counted holds what was folded at or below it as
// well, and in the tree of the other dimension that stands at the root.
func (w *Window) Filter(f Filter) *Window {
	s := newSelection(w.exporters, f)
	if s == nil {
		return w
	}
	s.measure(w)
	filtered := *w
	filtered.selection, filtered.whole, filtered.maybe = s, w.missing(0), s.maybe.Bytes
	filtered.other = epoch.Count{}
	if d, only := s.only(); only && within(s.flowsIn[d], s.inside[d]) {
		s.own[d] = true
		filtered.Counted = s.inside[d]
		filtered.folded = difference(s.inside[d], s.flowsIn[d])
		filtered.Unattributed = difference(s.related[d], s.inside[d])
		return &filtered
	}
	filtered.Counted, filtered.folded, filtered.doubtful = s.matched, epoch.Count{}, s.doubtful
	filtered.Unattributed = s.unattributed(w)
	filtered.Unattributed.Add(s.maybe)
	return &filtered
}

// IsFiltered says whether the window is only what a filter selects.
func (w *Window) IsFiltered() bool { return w.selection != nil }

// unknown is the bytes that may be of anything in the window and count nowhere.
func (w *Window) unknown() uint64 {
	return w.Unattributed.Bytes + w.Remainder.Bytes + w.Uncertain.Bytes + w.hidden
}

// missing is the bytes that aren't under a flow and may be of one, of which spared
// are known not to be: whatever gave up its flow, or never had one.
func (w *Window) missing(spared uint64) uint64 {
	lost := w.folded.Bytes + w.other.Bytes + w.unknown()
	if w.selection == nil {
		return lost - min(lost, spared)
	}
	return w.maybe + min(lost-w.maybe, w.whole-min(w.whole, spared))
}

// within says that neither bytes nor packets of a are more than b's.
func within(a, b epoch.Count) bool { return a.Bytes <= b.Bytes && a.Packets <= b.Packets }

func difference(a, b epoch.Count) epoch.Count {
	a.Sub(b)
	return a
}

// flows are those that the filter selects for sure. Each is valid until the next one.
func (w *Window) flows() iter.Seq[*counted] {
	return func(yield func(*counted) bool) {
		for _, c := range w.contents {
			for f := range c.allFlows() {
				if (w.selection == nil || w.selection.flow(f) == inside) && !yield(f) {
					return
				}
			}
		}
	}
}

// masses are those of a content that the filter selects.
func (w *Window) masses(i int, d flow.Dimension) iter.Seq[hhh.Mass] {
	s, c := w.selection, w.contents[i]
	return func(yield func(hhh.Mass) bool) {
		if s == nil || s.own[d] {
			for m := range c.packed.masses[d].All() {
				if (s == nil || s.ends[d].membership(m.Prefix) == inside) && !yield(m) {
					return
				}
			}
			return
		}
		for f := range c.allFlows() {
			if s.flow(f) == inside && !yield(hhh.Mass{Prefix: f.prefix(d), Count: f.Count}) {
				return
			}
		}
	}
}
