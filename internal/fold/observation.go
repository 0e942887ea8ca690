package fold

import (
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// A flow that crosses several devices of a host is counted at one point, its
// primary, and what the others saw of it are duplicates. The primary stays as long
// as it has traffic and for one epoch more: packets that it saw at the end of one
// epoch pass the next point at the beginning of the following one, and must not
// count again.

// primaryIdle is for how many epochs a primary stays without traffic.
const primaryIdle = 1

// directionOf returns the direction of a point.
func directionOf(point uint16) flow.Direction { return flow.Direction(point & 1) }

// settle takes what all points saw of e's flow in the half out of the set, books
// the duplicates and returns what counts: the primary's.
func (l *Ledger) settle(set []entry, e *entry, h Half) epoch.Count {
	primary := l.primary(set, e)
	if primary == nil || (!primary.active(h) && l.epoch-primary.last > primaryIdle) {
		primary = l.elect(set, e, h)
	}
	var count epoch.Count
	for i := range set {
		o := &set[i]
		if !e.sameFlow(o) || !o.active(h) {
			continue
		}
		if c := l.table.take(o, h); o == primary {
			count = c
		} else {
			l.books[h].duplicates[o.point].Add(c)
		}
		o.last = l.epoch
	}
	return count
}

// primary returns the entry at which e's flow is counted, nil if none was elected.
func (l *Ledger) primary(set []entry, e *entry) *entry {
	for i := range set {
		if set[i].primary && e.sameFlow(&set[i]) {
			return &set[i]
		}
	}
	return nil
}

// elect makes the best-ranked point with traffic in the half the flow's primary,
// ingress before egress: of a forwarded packet that is the earlier one.
func (l *Ledger) elect(set []entry, e *entry, h Half) *entry {
	var best *entry
	for i := range set {
		o := &set[i]
		if !e.sameFlow(o) {
			continue
		}
		o.primary = false
		if o.active(h) && (best == nil || l.better(o.point, best.point)) {
			best = o
		}
	}
	if best != nil {
		best.primary = true
	}
	return best
}

func (l *Ledger) better(a, b uint16) bool {
	if l.ranks[a] != l.ranks[b] {
		return l.ranks[a] < l.ranks[b]
	}
	if directionOf(a) != directionOf(b) {
		return directionOf(a) == flow.Ingress
	}
	return a < b
}
