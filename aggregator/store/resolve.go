package store

import (
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Every packet is counted at one host, though several may see it on its way.
// Which one that is follows from the flow and from which hosts cover the time of
// the epoch in which it was seen:
//
//  1. If the source is an address of covering hosts, they count it: they see all
//     that they send, before anything can be lost on the way.
//  2. Else, if the destination is, they count it.
//  3. Else the flow is in transit, and one of the hosts that see it counts it,
//     the same one for as long as it does.
//
// A host whose exporter was down or that missed epochs doesn't cover that time, and
// leaves its flows to the next rule. A host that covers a part of the epoch's time
// has counted that part, and leaves the rest (see borders.go). Where several hosts
// claim one address each has its own of it (container networks), and each counts its
// own. What was folded follows the same rules by its class (see folded.go).
//
// A second is resolved as its epochs come in. Until it closes they are kept as they
// came, and resolved anew when a host's addresses, or whether it covers the second,
// become known after another host's epochs have come in.

// resolution decides for the epochs of one second.
type resolution struct {
	store   *Store
	claims  *claims
	transit *transit
	names   *namer
	second  int64
	// For flows for which transit has no room: the first that saw it.
	first   map[flow.Key]uint32
	borders map[*exporter][]neighbour
}

// end is a flow's address as the rules need it.
func end(address [16]byte) netip.Addr { return netip.AddrFrom16(address).Unmap() }

// claimed applies the first two rules. Flows that they don't settle are in transit.
func (r *resolution) claimed(x *exporter, s span, key *flow.Key) (by ruling) {
	source := end(key.Source)
	if source.IsLoopback() {
		return ruling{settled: true, mine: true} // each host has its own
	}
	if r.claims.rule(&by, source, x, s); !by.settled {
		r.claims.rule(&by, end(key.Destination), x, s)
	}
	return by
}

// share returns what x counts of a flow that it saw.
func (r *resolution) share(x *exporter, e *epoch.Epoch, f *epoch.Flow) share {
	by := r.claimed(x, spanOf(e), &f.Key)
	if !by.settled {
		owner := r.owner(x, &f.Key)
		by.mine = owner == x
		if !by.mine && owner.coverage(spanOf(e)) != wholly {
			return share{uncertain: f.Count} // somebody else's, or nobody's
		}
	}
	switch {
	case !by.mine:
		return share{}
	case len(by.owners) > 0:
		return r.rest(e, f, by.owners)
	}
	return share{Count: f.Count, doubtful: f.Doubtful}
}

// owner returns who counts a flow in transit that x saw.
func (r *resolution) owner(x *exporter, key *flow.Key) *exporter {
	id, known := r.transit.ownerOr(key, x.id, r.second, r.store.now().Unix())
	if !known {
		if _, seen := r.first[*key]; !seen {
			r.first[*key] = x.id
		}
		id = r.first[*key]
	}
	return r.store.exporters[id]
}

// add adds an epoch to a content. For flows that transit doesn't know, the first
// one that is added counts.
func (r *resolution) add(c *content, x *exporter, e *epoch.Epoch) {
	c.addDoubts(e)
	before := c.elsewhere()
	r.fold(c, x, e)
	elsewhere := c.elsewhere() - before + e.Hidden.Bytes
	for i := range e.Flows {
		c.addFlow(x, &e.Flows[i], r.share(x, e, &e.Flows[i]), elsewhere)
	}
}

// elsewhere is how many bytes may be of flows, but aren't under them.
func (c *content) elsewhere() uint64 { return c.folded.Bytes + c.uncertain.Bytes }

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
	if len(others) == 0 {
		r.fold(c, x, e)
	} else {
		for i := range e.Ladders {
			c.addUncertain(&e.Ladders[i])
		}
	}
	elsewhere := c.elsewhere() + e.Hidden.Bytes
	for i := range e.Flows {
		if f := &e.Flows[i]; !others[f.Key] {
			c.addFlow(x, f, r.share(x, e, f), elsewhere)
		}
	}
	c.setNames(r.names)
	return c
}
