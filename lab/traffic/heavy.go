package traffic

import (
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// The shape of heavy mode. Of the flows, a few are elephants, an eighth (at
// most one a port) is the scan and the rest the flood; of the packets that are
// left after one for each flow, the elephants get half and the flood the rest.
const (
	elephants    = 4
	scanPart     = 8
	floodPort    = 443
	lastScanPort = 1024
)

// heavy plans the flows of heavy mode: elephants between sources and
// destinations, a flood of TCP SYNs from many sources to the first
// destination, and one source's scan of that destination's ports.
func (p *planner) heavy() error {
	c := p.configuration
	large := min(elephants, c.Flows)
	scan := min((c.Flows-large)/scanPart, lastScanPort)
	flood := c.Flows - large - scan
	spare := c.total() - uint64(c.Flows)
	toElephants := spare / 2
	if flood == 0 {
		toElephants = spare
	}

	for _, packets := range (Distribution{Kind: Uniform}).spread(uint64(large)+toElephants, large, p.random) {
		t := p.ordinary(packets)
		t.flow.size = SizeRange{MaxFrameSize, MaxFrameSize}
		if err := p.add(t); err != nil {
			return err
		}
	}
	if err := p.scan(scan); err != nil || flood == 0 {
		return err
	}
	for _, packets := range (Distribution{Kind: Uniform}).spread(uint64(flood)+spare-toElephants, flood, p.random) {
		if err := p.add(p.flood(packets)); err != nil {
			return err
		}
	}
	return nil
}

// victim is the first address of the first destination.
func (p *planner) victim() netip.Addr { return p.configuration.Destinations[0].Addr() }

func (p *planner) attack(sources []netip.Prefix, packets uint64) template {
	victim := p.victim()
	return template{
		sources:      family(sources, victim.Is6()),
		destinations: addressSet{netip.PrefixFrom(victim, victim.BitLen())},
		sourcePorts:  unprivileged, destinationPorts: []uint16{floodPort},
		protocol: flow.ProtocolTCP,
		flow:     Flow{Planned: packets, behaviour: probe},
	}
}

func (p *planner) flood(packets uint64) template {
	sources := p.configuration.Spoofed
	if len(family(sources, p.victim().Is6())) == 0 {
		sources = p.configuration.Sources
	}
	return p.attack(sources, packets)
}

// scan plans one packet to each of the victim's first ports, all from one
// address and port.
func (p *planner) scan(ports int) error {
	t := p.attack(p.configuration.Sources, 1)
	if len(t.sources) > 0 {
		scanner := t.sources.draw(p.random)
		t.sources = addressSet{netip.PrefixFrom(scanner, scanner.BitLen())}
	}
	port := t.sourcePorts.draw(p.random)
	t.sourcePorts = portRange{port, port}
	for number := range ports {
		t.destinationPorts = []uint16{uint16(number + 1)}
		if err := p.add(t); err != nil {
			return err
		}
	}
	return nil
}
