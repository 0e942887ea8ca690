package top

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// view is one way to look at the traffic.
type view struct {
	name     string   // as --by takes it
	tab      string   // on the screen
	headings []string // of what a row is named by
	extra    []string // of further counts
	gather   func(*gathering)
}

// views are in the order of the tabs.
var views = []view{
	{"flows", "flows", []string{"SOURCE", "DESTINATION", "PROTO"}, nil, (*gathering).byFlow},
	{"sources", "sources", []string{"SOURCE"}, nil, ofAddresses(flow.Source)},
	{"destinations", "destinations", []string{"DESTINATION"}, nil, ofAddresses(flow.Destination)},
	{"services", "services", []string{"PROTO", "PORT", "SERVICE"}, nil, (*gathering).byService},
	{"source-prefixes", "src prefix", []string{"SOURCE PREFIX"}, []string{"OWN"}, ofPrefixes(flow.Source)},
	{"destination-prefixes", "dst prefix", []string{"DESTINATION PREFIX"}, []string{"OWN"}, ofPrefixes(flow.Destination)},
	{"devices", "devices", []string{"DEVICE", "DIRECTION"}, []string{"DUPLICATE", "NO TUPLE", "REMAINDER"}, (*gathering).byDevice},
}

func (g *gathering) byFlow() {
	for key, s := range g.flows() {
		g.add(row{label: func(names bool) []string { return flowLabel(key, names) }, key: key, sums: *s})
	}
	g.foldAll(g.foldedInto(flow.Source))
	g.addRests()
}

// flowLabel names a flow; the port of its service goes by name if wanted.
func flowLabel(key flow.Key, names bool) []string {
	return []string{endLabel(&key, flow.Source, names), endLabel(&key, flow.Destination, names), flow.ProtocolName(key.Protocol)}
}

func endLabel(key *flow.Key, d flow.Dimension, names bool) string {
	text := string(appendEnd(nil, key, d))
	service := flow.ServiceOf(key)
	name, port := serviceName(service), ":"+strconv.Itoa(int(service.Port))
	if address, ok := strings.CutSuffix(text, port); ok && names && name != "" && key.HasPorts() {
		return address + ":" + name
	}
	return text
}

// foldAll counts as folded what can't be told apart any further.
func (g *gathering) foldAll(prefixes tally[netip.Prefix]) {
	for _, s := range prefixes {
		g.folded.add(s)
	}
}

// ofAddresses is the view of one dimension's addresses.
func ofAddresses(d flow.Dimension) func(*gathering) {
	return func(g *gathering) {
		addresses := tally[netip.Addr]{}
		for key, s := range g.flows() {
			addresses.of(key.Addr(d)).add(s)
		}
		prefixes := g.foldedInto(d)
		for p, s := range prefixes {
			if p.IsSingleIP() {
				addresses.of(p.Addr().Unmap()).add(s)
				delete(prefixes, p)
			}
		}
		for address, s := range addresses {
			g.add(row{
				label: func(bool) []string { return []string{address.String()} },
				key:   flow.Key{Source: address.As16()}, sums: *s,
			})
		}
		g.foldAll(prefixes)
		g.addRests()
	}
}

func (g *gathering) byService() {
	services := tally[flow.Service]{}
	for key, s := range g.flows() {
		services.of(flow.ServiceOf(&key)).add(s)
	}
	for service, s := range services {
		g.add(row{
			label: func(bool) []string { return serviceLabel(service) },
			key:   serviceKey(service), sums: *s,
		})
	}
	g.foldAll(g.foldedInto(flow.Source))
	g.addRests()
}

func serviceLabel(s flow.Service) []string {
	label := []string{flow.ProtocolName(s.Protocol), "-", "-"}
	if s.Port != 0 {
		label[1] = strconv.Itoa(int(s.Port))
	}
	if name := serviceName(s); name != "" {
		label[2] = name
	}
	return label
}

// serviceKey orders services by protocol, then by port.
func serviceKey(s flow.Service) flow.Key {
	return flow.Key{SourcePort: uint16(s.Protocol), DestinationPort: s.Port}
}

// phi is the share of the total from which on a prefix is heavy, the aggregator's
// default.
const phi = 0.01

// ofPrefixes is the view of one dimension's hierarchical heavy hitters, by bytes
// in the window. A row's own traffic is its conditioned count: without longer
// prefixes that are heavy themselves.
func ofPrefixes(d flow.Dimension) func(*gathering) {
	return func(g *gathering) {
		masses := tally[hhh.Prefix]{}
		for key, s := range g.flows() {
			masses.of(hhh.FromNetip(netip.PrefixFrom(key.Addr(d), key.Addr(d).BitLen()))).add(s)
		}
		for p, s := range g.foldedInto(d) {
			masses.of(hhh.FromNetip(p)).add(s)
		}
		g.addPrefixes(masses)
		g.addRests()
	}
}

// addPrefixes adds a row for each heavy prefix and a rest for all others.
func (g *gathering) addPrefixes(masses tally[hhh.Prefix]) {
	heavy := g.heavy(masses)
	at, below := tally[hhh.Prefix]{}, tally[hhh.Prefix]{}
	var light sums
	for p, s := range masses {
		conditioned := &light
		for _, ancestor := range ancestors(p) {
			if !heavy[ancestor] {
				continue
			}
			if conditioned == &light {
				conditioned = at.of(ancestor)
			}
			below.of(ancestor).add(s)
		}
		conditioned.add(s)
	}
	for p := range heavy {
		own := *at.of(p)
		g.rows = append(g.rows, row{
			label: func(bool) []string { return []string{p.String()} },
			key:   prefixKey(p), sums: *below.of(p),
			own: own, extra: []epoch.Count{own[g.window]},
		})
	}
	g.addRest("in no heavy prefix", light)
}

// levels are bytes of IPv4 and groups of IPv6.
var levels = hhh.DefaultLevels()

func (g *gathering) heavy(masses tally[hhh.Prefix]) map[hhh.Prefix]bool {
	list := make([]hhh.Mass, 0, len(masses))
	for p, s := range masses {
		list = append(list, hhh.Mass{Prefix: p, Count: s[g.window]})
	}
	builder := hhh.NewBuilder(levels)
	builder.Add(list)
	heavy := map[hhh.Prefix]bool{}
	for _, h := range builder.Build().Heavy(phi) {
		heavy[h.Prefix] = true
	}
	return heavy
}

// ancestors returns the prefixes of the hierarchy that a mass is at or below, the
// longest first, the root last.
func ancestors(p hhh.Prefix) []hhh.Prefix {
	lengths := levels.IPv4
	if p.Family() == hhh.IPv6 {
		lengths = levels.IPv6
	}
	up := make([]hhh.Prefix, 0, len(lengths)+1)
	for i := len(lengths) - 1; i >= 0; i-- {
		if lengths[i] <= p.Length() {
			up = append(up, p.Truncate(lengths[i]))
		}
	}
	return append(up, hhh.Prefix{})
}

// prefixKey orders prefixes by address, shorter ones first.
func prefixKey(p hhh.Prefix) flow.Key {
	var key flow.Key
	if network := p.Netip(); network.IsValid() {
		key.Source = network.Addr().As16()
		binary.BigEndian.PutUint16(key.Destination[:], uint16(network.Bits()+1))
	}
	return key
}

// attachment is a device in one direction.
type attachment struct {
	name      string
	direction flow.Direction
}

// byDevice shows all that each device saw, duplicates included.
func (g *gathering) byDevice() {
	all := tally[attachment]{}
	parts := map[attachment][]epoch.Count{}
	g.history.each(func(e *epoch.Epoch, shortest int) {
		for i := range e.Devices {
			d := &e.Devices[i]
			key := attachment{d.Name, d.Direction}
			all.of(key).addFrom(shortest, d.Total)
			g.total.addFrom(shortest, d.Total)
			if parts[key] == nil {
				parts[key] = make([]epoch.Count, len(g.view.extra))
			}
			if shortest <= g.window {
				addParts(parts[key], d)
			}
		}
	})
	for key, s := range all {
		text := printable(key.name, maxName) + " " + key.direction.String()
		if g.filter.verdict(&subject{text: strings.ToLower(text)}) == no {
			g.filtered.add(s)
			continue
		}
		g.add(row{
			label: func(bool) []string { return []string{printable(key.name, maxName), key.direction.String()} },
			text:  text, sums: *s, extra: parts[key],
		})
	}
	g.addRest("filtered out", g.filtered)
}

// addParts adds the counts of the extra columns.
func addParts(to []epoch.Count, d *epoch.Device) {
	to[0].Add(d.Duplicate)
	for _, other := range d.Others {
		to[1].Add(other.Count)
	}
	to[2].Add(d.Remainder)
}
