package store

import (
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Every packet is counted at one host, though several may see it on its way.
// Which one that is follows from the flow and from which hosts cover its second:
//
//  1. If the source is an address of covering hosts, they count it: they see all
//     that they send, before anything can be lost on the way.
//  2. Else, if the destination is, they count it.
//  3. Else the flow is in transit, and one of the hosts that see it counts it,
//     the same one for as long as it does.
//
// A host whose exporter was down or that missed epochs doesn't cover the second,
// and leaves its flows to the next rule. Where several hosts claim one address
// each has its own of it (container networks), and each counts its own.
//
// What an exporter folded has no flow any more; it is in classes by the same
// rules. Own is counted. The other two classes are traffic that a host of the
// fleet should have counted as its own: they count nowhere, but since that host
// may have been down, they widen every interval.
//
// A second is resolved as its epochs come in. Until it closes they are kept as they
// came, and resolved anew when a host's addresses, or whether it covers the second,
// become known after another host's epochs have come in.

// resolution decides for the flows of one second.
type resolution struct {
	claims   *claims
	transit  *transit
	names    *namer
	covering []bool // by exporter id
	second   int64
	// For flows that transit doesn't know: the first that saw it.
	first map[flow.Key]uint32
}

// end is a flow's address as the rules need it.
func end(address [16]byte) netip.Addr { return netip.AddrFrom16(address).Unmap() }

// claimed applies the first two rules. settled is false for flows in transit.
func (r *resolution) claimed(x *exporter, key *flow.Key) (settled, counts bool) {
	source := end(key.Source)
	if source.IsLoopback() {
		return true, true // each host has its own
	}
	if settled, counts = r.claims.owner(source, x, r.covering); settled {
		return settled, counts
	}
	return r.claims.owner(end(key.Destination), x, r.covering)
}

// counts says whether x counts a flow that it saw.
func (r *resolution) counts(x *exporter, key *flow.Key) bool {
	if settled, counts := r.claimed(x, key); settled {
		return counts
	}
	if owner, known := r.transit.owner(key, r.second); known {
		return owner == x.id
	}
	if _, seen := r.first[*key]; !seen {
		r.first[*key] = x.id
	}
	return r.first[*key] == x.id
}

// add adds an epoch to a content. For flows that transit doesn't know, the first
// one that is added counts.
func (r *resolution) add(c *content, x *exporter, e *epoch.Epoch) {
	c.addDoubts(e)
	elsewhere := elsewhere(e)
	for i := range e.Flows {
		if r.counts(x, &e.Flows[i].Key) {
			c.addFlow(x, &e.Flows[i], elsewhere)
		}
	}
	for i := range e.Ladders {
		if e.Ladders[i].Class == epoch.Own {
			c.addFolded(&e.Ladders[i])
		} else {
			c.addUncertain(&e.Ladders[i])
		}
	}
}

// late makes the content of an epoch that came after its second was closed. By
// then another host may have stood in for this one, so a flow counts only if no
// other host's count of it is there; and what is folded, for which nobody can
// tell, only if no other host has anything there.
func (r *resolution) late(closed *content, x *exporter, e *epoch.Epoch) *content {
	others := make(map[flow.Key]bool, closed.packed.flows.n)
	for f := range closed.allFlows() {
		if f.exporter != x.id {
			others[f.Key] = true
		}
	}
	c := &content{distinct: make(distinct), newest: e.End}
	c.addDoubts(e)
	elsewhere := elsewhere(e)
	for i := range e.Flows {
		if f := &e.Flows[i]; !others[f.Key] && r.counts(x, &f.Key) {
			c.addFlow(x, f, elsewhere)
		}
	}
	for i := range e.Ladders {
		if e.Ladders[i].Class == epoch.Own && len(others) == 0 {
			c.addFolded(&e.Ladders[i])
		} else {
			c.addUncertain(&e.Ladders[i])
		}
	}
	c.setNames(r.names)
	return c
}
