package store

import (
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// What an exporter folded has no flow any more, but it has a class, which follows
// the same rules: Own is what this host counts. The other two are traffic of other
// hosts of the fleet, and one end of it is in each of their prefixes. If that end is
// a host's that covers the epoch, it is counted there. If no host that covers any
// of it owns the end, and the other end is this host's, this one stands in. What is
// between widens every interval.

// fold counts an epoch's ladders.
func (r *resolution) fold(c *content, x *exporter, e *epoch.Epoch) {
	for i := range e.Ladders {
		if e.Ladders[i].Class == epoch.Own {
			c.addFolded(&e.Ladders[i])
		}
	}
	for _, class := range []epoch.Class{epoch.FleetSource, epoch.FleetDestination} {
		for _, ipv4 := range []bool{true, false} {
			r.foldFleet(c, x, e, class, ipv4)
		}
	}
}

// decides is the dimension whose prefixes tell who should have counted a class.
func decides(class epoch.Class) flow.Dimension {
	if class == epoch.FleetSource {
		return flow.Source
	}
	return flow.Destination
}

func opposite(d flow.Dimension) flow.Dimension { return 1 - d }

// foldFleet counts what of a class this host stands in for.
func (r *resolution) foldFleet(c *content, x *exporter, e *epoch.Epoch, class epoch.Class, ipv4 bool) {
	d, s := decides(class), spanOf(e)
	deciding := entries(e, class, d, ipv4)
	if len(deciding) == 0 {
		return
	}
	ends := entries(e, class, opposite(d), ipv4)
	standsIn := class == epoch.FleetSource && x.owns(ends) || r.alone(x, s)
	var mine []epoch.Prefix
	for i := range deciding {
		switch r.claims.of(deciding[i].Prefix, x, s) {
		case anothers:
			continue
		case nobodys:
			if standsIn {
				mine = append(mine, deciding[i])
				continue
			}
		}
		c.uncertain.Add(deciding[i].Count)
	}
	c.addFleet(class, mine, deciding, ends)
}

// entries returns the prefixes of one family of a class and dimension.
func entries(e *epoch.Epoch, class epoch.Class, d flow.Dimension, ipv4 bool) (found []epoch.Prefix) {
	for i := range e.Ladders {
		if e.Ladders[i].Class != class || e.Ladders[i].Dimension != d {
			continue
		}
		for _, entry := range e.Ladders[i].Entries {
			if entry.Addr().Is4() == ipv4 {
				found = append(found, entry)
			}
		}
	}
	return found
}

// owns says that all prefixes are the host's own.
func (x *exporter) owns(prefixes []epoch.Prefix) bool {
	for i := range prefixes {
		if !x.ownsPrefix(prefixes[i].Prefix) {
			return false
		}
	}
	return true
}

func (x *exporter) ownsPrefix(prefix netip.Prefix) bool {
	for _, network := range x.networks {
		if network.Bits() <= prefix.Bits() && network.Contains(prefix.Addr()) {
			return true
		}
	}
	return false
}

// alone says that no other host covers any of the span.
func (r *resolution) alone(x *exporter, s span) bool {
	for _, other := range r.store.exporters {
		if other != x && other.coverage(s) != none {
			return false
		}
	}
	return true
}

// addFleet counts prefixes of a class, some of all that there are. In the other
// dimension these are the same bytes; if they aren't all, it isn't known under which
// prefixes, but one that contains them all is.
func (c *content) addFleet(class epoch.Class, mine, all, ends []epoch.Prefix) {
	if len(mine) == 0 {
		return
	}
	if len(mine) < len(all) {
		ends = []epoch.Prefix{{Prefix: common(ends), Count: sum(mine)}}
	}
	d := decides(class)
	for _, ladder := range []epoch.Ladder{{Class: class, Dimension: d, Entries: mine}, {Class: class, Dimension: opposite(d), Entries: ends}} {
		c.addFolded(&ladder)
		c.standIns = append(c.standIns, ladder)
	}
}

func sum(prefixes []epoch.Prefix) (total epoch.Count) {
	for i := range prefixes {
		total.Add(prefixes[i].Count)
	}
	return total
}

// common returns the longest prefix that contains all of some prefixes of one family.
func common(prefixes []epoch.Prefix) netip.Prefix {
	shared := prefixes[0].Prefix
	for _, p := range prefixes[1:] {
		for shared.Bits() > p.Bits() || !shared.Contains(p.Addr()) {
			shared = netip.PrefixFrom(shared.Addr(), shared.Bits()-1).Masked()
		}
	}
	return shared
}
