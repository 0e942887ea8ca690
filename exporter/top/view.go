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
	flows := newTally[flow.Key]()
	g.eachFlow(func(key *flow.Key, shortest int, c epoch.Count) { flows.of(*key).addFrom(shortest, c) })
	for _, f := range flows.entries {
		g.add(&row{label: func(names bool) []string { return flowLabel(f.key, names) }, key: f.key, sums: f.sums})
	}
	g.foldAll()
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

// ofAddresses is the view of one dimension's addresses.
func ofAddresses(d flow.Dimension) func(*gathering) {
	return func(g *gathering) {
		addresses := newTally[[16]byte]()
		g.eachFlow(func(key *flow.Key, shortest int, c epoch.Count) { addresses.of(addressOf(key, d)).addFrom(shortest, c) })
		g.eachFolded(d, func(p netip.Prefix, shortest int, c epoch.Count) {
			if p.IsSingleIP() {
				addresses.of(p.Addr().As16()).addFrom(shortest, c)
			} else {
				g.folded.addFrom(shortest, c)
			}
		})
		for _, a := range addresses.entries {
			g.add(&row{
				label: func(bool) []string { return []string{netip.AddrFrom16(a.key).Unmap().String()} },
				key:   flow.Key{Source: a.key}, sums: a.sums,
			})
		}
		g.addRests()
	}
}

func (g *gathering) byService() {
	services := newTally[flow.Service]()
	g.eachFlow(func(key *flow.Key, shortest int, c epoch.Count) {
		services.of(flow.ServiceOf(key)).addFrom(shortest, c)
	})
	for _, s := range services.entries {
		g.add(&row{
			label: func(bool) []string { return serviceLabel(s.key) },
			key:   serviceKey(s.key), sums: s.sums,
		})
	}
	g.foldAll()
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
		var masses []mass
		g.eachFlow(func(key *flow.Key, shortest int, c epoch.Count) {
			masses = append(masses, mass{hhh.Mass{Prefix: hhh.AddrPrefix(addressOf(key, d)), Count: c}, shortest})
		})
		g.eachFolded(d, func(p netip.Prefix, shortest int, c epoch.Count) {
			masses = append(masses, mass{hhh.Mass{Prefix: hhh.FromNetip(p), Count: c}, shortest})
		})
		g.addPrefixes(masses)
		g.addRests()
	}
}

// mass is traffic of one epoch.
type mass struct {
	hhh.Mass
	shortest int // of the windows that it is in
}

func addressOf(key *flow.Key, d flow.Dimension) [16]byte {
	if d == flow.Destination {
		return key.Destination
	}
	return key.Source
}

// addPrefixes adds a row for each heavy prefix and a rest for all others.
func (g *gathering) addPrefixes(masses []mass) {
	rows, light := g.heavyRows(masses), sums{}
	for i := range masses {
		conditioned := &light
		for up := newClimb(masses[i].Prefix); up.next(); {
			r := rows[up.at]
			if r == nil {
				continue
			}
			if conditioned == &light {
				conditioned = &r.own
			}
			r.sums.addFrom(masses[i].shortest, masses[i].Count)
		}
		conditioned.addFrom(masses[i].shortest, masses[i].Count)
	}
	for _, r := range rows {
		r.extra = []epoch.Count{r.own[g.window]}
		g.rows = append(g.rows, r)
	}
	g.addRest("in no heavy prefix", light)
}

// levels are bytes of IPv4 and groups of IPv6.
var levels = hhh.DefaultLevels()

// heavyRows returns an empty row for each prefix that is heavy in the window.
func (g *gathering) heavyRows(masses []mass) map[hhh.Prefix]*row {
	list := make([]hhh.Mass, 0, len(masses))
	for i := range masses {
		if masses[i].shortest <= g.window {
			list = append(list, masses[i].Mass)
		}
	}
	builder := hhh.NewBuilder(levels)
	builder.Add(list)
	rows := map[hhh.Prefix]*row{}
	for _, h := range builder.Build().Heavy(phi) {
		rows[h.Prefix] = &row{label: func(bool) []string { return []string{h.Prefix.String()} }, key: prefixKey(h.Prefix)}
	}
	return rows
}

// climb goes through the prefixes of the hierarchy that a mass is at or below, the
// longest first, the root last.
type climb struct {
	at      hhh.Prefix
	lengths []int // that are left
	ended   bool
}

func newClimb(p hhh.Prefix) climb {
	lengths := levels.IPv4
	if p.Family() == hhh.IPv6 {
		lengths = levels.IPv6
	}
	for len(lengths) > 0 && lengths[len(lengths)-1] > p.Length() {
		lengths = lengths[:len(lengths)-1]
	}
	return climb{at: p, lengths: lengths}
}

// next goes one step up, to the first prefix at first.
func (c *climb) next() bool {
	if n := len(c.lengths); n > 0 {
		c.at, c.lengths = c.at.Truncate(c.lengths[n-1]), c.lengths[:n-1]
		return true
	}
	last := !c.ended
	c.at, c.ended = hhh.Prefix{}, true
	return last
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
	all := newTally[attachment]()
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
	for _, d := range all.entries {
		name, direction := printable(d.key.name, maxName), d.key.direction.String()
		text := name + " " + direction
		if g.filter.verdict(&subject{text: strings.ToLower(text)}) == no {
			g.filtered.add(&d.sums)
			continue
		}
		g.add(&row{
			label: func(bool) []string { return []string{name, direction} },
			text:  text, sums: d.sums, extra: parts[d.key],
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
