package traffic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Flow is one 5-tuple: how many packets of it are planned, and how many
// packets and bytes the kernel has taken. Bytes are those on the wire: with the
// layer-2 header, without a frame check sequence, and not padded.
type Flow struct {
	Key     flow.Key
	Planned uint64
	Packets uint64
	Bytes   uint64

	behaviour behaviour
	size      SizeRange // of its data frames
	hop       int       // index of its next hop
	written   uint64    // packets made, which may be ahead of those sent
	sequence  uint32    // of the next TCP segment
}

// behaviour is what the packets of a flow are.
type behaviour uint8

const (
	transfer behaviour = iota // TCP: SYN, data, FIN; UDP: data
	probe                     // TCP: nothing but SYN
)

// The random streams of a seed: what is drawn from one doesn't move another.
const (
	planStream = iota
	orderStream
)

func newRandom(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// planner draws distinct flows.
type planner struct {
	configuration Configuration
	random        *rand.Rand
	taken         map[flow.Key]struct{}
	flows         []Flow
}

// plan draws the flows of a valid configuration.
func plan(c Configuration) ([]Flow, error) {
	p := &planner{
		configuration: c,
		random:        newRandom(c.Seed, planStream),
		taken:         make(map[flow.Key]struct{}, c.Flows),
		flows:         make([]Flow, 0, c.Flows),
	}
	draw := p.normal
	if c.Mode == Heavy {
		draw = p.heavy
	}
	err := draw()
	return p.flows, err
}

// normal plans the flows of normal mode. Which addresses and protocols the big
// flows have is by chance.
func (p *planner) normal() error {
	c := p.configuration
	for _, packets := range c.Distribution.spread(c.total(), c.Flows, p.random) {
		if err := p.add(p.ordinary(packets)); err != nil {
			return err
		}
	}
	return nil
}

// template is a flow to be drawn: the sets of what its key may be.
type template struct {
	sources, destinations addressSet
	sourcePorts           portRange
	destinationPorts      []uint16
	protocol              uint8
	flow                  Flow
}

// ordinary is the template of a flow between sources and destinations.
func (p *planner) ordinary(packets uint64) template {
	c := p.configuration
	ipv6 := p.random.Float64() < c.IPv6Share
	protocol := uint8(flow.ProtocolTCP)
	if p.random.Float64() < c.UDPShare {
		protocol = flow.ProtocolUDP
	}
	return template{
		sources: family(c.Sources, ipv6), destinations: family(c.Destinations, ipv6),
		sourcePorts: unprivileged, destinationPorts: c.Ports, protocol: protocol,
		flow: Flow{Planned: packets, size: c.FrameSize},
	}
}

// portRange is a range of ports, both ends included.
type portRange struct{ first, last uint16 }

var unprivileged = portRange{1024, 65535}

func (r portRange) draw(random *rand.Rand) uint16 {
	return r.first + uint16(random.IntN(int(r.last-r.first)+1))
}

// maxDraws bounds the search for a 5-tuple that isn't taken.
const maxDraws = 1000

// add draws a flow that differs from all before.
func (p *planner) add(t template) error {
	if len(t.sources) == 0 || len(t.destinations) == 0 {
		return errors.New("sources and destinations must both have addresses of every family that is to be sent")
	}
	for range maxDraws {
		key := flow.Key{
			Source:          t.sources.draw(p.random).As16(),
			Destination:     t.destinations.draw(p.random).As16(),
			SourcePort:      t.sourcePorts.draw(p.random),
			DestinationPort: t.destinationPorts[p.random.IntN(len(t.destinationPorts))],
			Protocol:        t.protocol,
		}
		if _, found := p.taken[key]; found || key.Source == key.Destination {
			continue
		}
		p.taken[key] = struct{}{}
		t.flow.Key = key
		t.flow.sequence = p.random.Uint32()
		p.flows = append(p.flows, t.flow)
		return nil
	}
	return fmt.Errorf("addresses and ports don't give %d distinct flows", p.configuration.Flows)
}

// destinationsOf lists the flows' distinct destinations in the order of their
// first appearance, and numbers each flow's in its hop.
func destinationsOf(flows []Flow) []netip.Addr {
	index := map[netip.Addr]int{}
	var destinations []netip.Addr
	for i := range flows {
		address := flows[i].Key.DestinationAddr()
		number, found := index[address]
		if !found {
			number = len(destinations)
			index[address] = number
			destinations = append(destinations, address)
		}
		flows[i].hop = number
	}
	return destinations
}
