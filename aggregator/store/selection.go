package store

import (
	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

// directions are those in which the hosts that counted a flow saw it, as bits.
type directions uint8

func directionsOf(d flow.Direction) directions { return 1 << d }

// membership says whether something is in a set. Greater is further in.
type membership uint8

const (
	outside membership = iota
	across             // parts of it may be
	inside
)

func isIn(in bool) membership {
	if in {
		return inside
	}
	return outside
}

// prefix returns the flow's address in one dimension.
func (c *counted) prefix(d flow.Dimension) hhh.Prefix {
	if d == flow.Source {
		return hhh.AddrPrefix(c.Source)
	}
	return hhh.AddrPrefix(c.Destination)
}

// addresses is a set of them: those of a prefix and those of a named network.
type addresses struct {
	prefix  *hhh.Prefix
	table   *networks.Table // nil for any network
	network uint16
}

func newAddresses(e Ends, table *networks.Table) addresses {
	var a addresses
	if e.Prefix.IsValid() {
		prefix := hhh.FromNetip(e.Prefix)
		a.prefix = &prefix
	}
	if e.Network != "" {
		a.table = table
		a.network, _ = table.Number(e.Network)
	}
	return a
}

func (a *addresses) all() bool { return a.prefix == nil && a.table == nil }

// membership says whether a prefix is in the set. That of an address is never across,
// and no prefix above an address in the set is outside.
func (a *addresses) membership(p hhh.Prefix) membership {
	in := inside
	if a.prefix != nil {
		switch {
		case a.prefix.Contains(p):
		case p.Contains(*a.prefix):
			in = across
		default:
			return outside
		}
	}
	if a.table == nil {
		return in
	}
	return min(in, a.named(p))
}

func (a *addresses) named(p hhh.Prefix) membership {
	switch {
	case p.Family() == hhh.Any:
		return across
	case p.IsAddr():
		return isIn(a.table.Lookup(p.Netip().Addr()) == a.network)
	}
	if network, same := a.table.LookupPrefix(p.Netip()); same {
		return isIn(network == a.network)
	}
	return across
}

// selection is a Filter as it is applied to one window, and what it selects there.
type selection struct {
	filter    Filter
	exporters map[uint32]bool // nil for all
	ends      [len(flow.Dimensions)]addresses
	either    addresses
	own       [len(flow.Dimensions)]bool // masses of the dimension are selected, not flows

	matched, maybe epoch.Count // flows
	doubtful       uint64      // of those that matched
	// Of each dimension that is asked for: its masses inside, those inside or across,
	// and the flows inside. Flows are among the masses inside or across.
	inside, related, flowsIn [len(flow.Dimensions)]epoch.Count
	// Of the question about either end: masses inside or across, less flows inside.
	eitherRest epoch.Count
}

// newSelection returns nil for a filter that selects everything.
func newSelection(exporters []*exporter, f Filter) *selection {
	s := &selection{filter: f, either: newAddresses(f.Either, f.Networks)}
	s.ends[flow.Source] = newAddresses(f.Source, f.Networks)
	s.ends[flow.Destination] = newAddresses(f.Destination, f.Networks)
	if len(f.Exporters) > 0 {
		s.exporters = make(map[uint32]bool)
		for _, x := range exporters {
			for _, name := range f.Exporters {
				if x.name == name {
					s.exporters[x.id] = true
				}
			}
		}
	}
	if s.anyKey() && s.either.all() && s.ends[flow.Source].all() && s.ends[flow.Destination].all() {
		return nil
	}
	return s
}

// anyKey says that only addresses are asked for.
func (s *selection) anyKey() bool {
	f := &s.filter
	return s.exporters == nil && f.Direction == nil && f.Protocol == nil && f.Port == nil && f.SourcePort == nil && f.DestinationPort == nil
}

// only returns the dimension if addresses of one are all that is asked for.
func (s *selection) only() (flow.Dimension, bool) {
	if !s.anyKey() || !s.either.all() {
		return 0, false
	}
	if s.ends[flow.Destination].all() {
		return flow.Source, true
	}
	return flow.Destination, s.ends[flow.Source].all()
}

// flow says whether a flow is selected. Across are those of which one part was
// counted by a host that is selected and another by one that isn't.
func (s *selection) flow(c *counted) membership {
	if !s.key(&c.Key) {
		return outside
	}
	return min(s.ofExporter(c), s.ofDirection(c), s.ofEnds(c))
}

func (s *selection) key(k *flow.Key) bool {
	f := &s.filter
	return (f.Protocol == nil || *f.Protocol == k.Protocol) &&
		(f.SourcePort == nil || *f.SourcePort == k.SourcePort) &&
		(f.DestinationPort == nil || *f.DestinationPort == k.DestinationPort) &&
		(f.Port == nil || k.HasPorts() && (*f.Port == k.SourcePort || *f.Port == k.DestinationPort))
}

func (s *selection) ofExporter(c *counted) membership {
	switch {
	case s.exporters == nil:
		return inside
	case c.exporter == severalExporters:
		return across
	}
	return isIn(s.exporters[c.exporter])
}

func (s *selection) ofDirection(c *counted) membership {
	if s.filter.Direction == nil {
		return inside
	}
	asked := directionsOf(*s.filter.Direction)
	if c.directions&asked != 0 && c.directions != asked {
		return across
	}
	return isIn(c.directions == asked)
}

func (s *selection) ofEnds(c *counted) membership {
	for _, d := range flow.Dimensions {
		if !s.ends[d].all() && s.ends[d].membership(c.prefix(d)) == outside {
			return outside
		}
	}
	if s.either.all() {
		return inside
	}
	return max(s.either.membership(c.prefix(flow.Source)), s.either.membership(c.prefix(flow.Destination)))
}

// measure sums up what the window holds of the selection.
func (s *selection) measure(w *Window) {
	for _, c := range w.contents {
		for f := range c.allFlows() {
			s.measureFlow(f)
		}
	}
	for _, d := range flow.Dimensions {
		s.measureMasses(w, d)
	}
}

func (s *selection) measureFlow(c *counted) {
	switch s.flow(c) {
	case inside:
		s.matched.Add(c.Count)
		s.doubtful += c.doubtful
	case across:
		s.maybe.Add(c.Count)
	}
	for _, d := range flow.Dimensions {
		p := c.prefix(d)
		if !s.ends[d].all() && s.ends[d].membership(p) == inside {
			s.flowsIn[d].Add(c.Count)
		}
		if !s.either.all() && s.either.membership(p) == inside {
			s.eitherRest.Sub(c.Count)
		}
	}
}

func (s *selection) measureMasses(w *Window, d flow.Dimension) {
	if s.ends[d].all() && s.either.all() {
		return
	}
	for _, c := range w.contents {
		for m := range c.packed.masses[d].All() {
			s.measureMass(&m, d)
		}
	}
}

func (s *selection) measureMass(m *hhh.Mass, d flow.Dimension) {
	if !s.ends[d].all() {
		in := s.ends[d].membership(m.Prefix)
		if in == inside {
			s.inside[d].Add(m.Count)
		}
		if in != outside {
			s.related[d].Add(m.Count)
		}
	}
	if !s.either.all() && s.either.membership(m.Prefix) != outside {
		s.eitherRest.Add(m.Count)
	}
}

// unattributed is the most that the filter may select of what has no flow: of all
// such traffic, and by each question about addresses. A flow is inside only where a
// mass inside or across has it, so that no difference is negative.
func (s *selection) unattributed(w *Window) epoch.Count {
	most := w.folded
	most.Add(w.other)
	for _, d := range flow.Dimensions {
		if !s.ends[d].all() {
			most = least(most, difference(s.related[d], s.flowsIn[d]))
		}
	}
	if !s.either.all() {
		most = least(most, s.eitherRest)
	}
	return most
}
