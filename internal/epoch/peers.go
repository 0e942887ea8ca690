package epoch

import (
	"github.com/traffic-monitor-agent/tma/internal/epoch/epochpb"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// maxSentPairs is how many pairs without a flow are sent in an epoch: some 2 KiB, of
// IPv6 8 KiB at most. With two epochs a second they estimate a number of peers within a
// minute as well as all that the window at the other end keeps.
const maxSentPairs = 256

// ends are a flow's or a pair's addresses.
type ends struct{ source, destination [16]byte }

// SamplePairs sets SampledPairs to what of Pairs goes out along with the flows that
// are there.
func (e *Epoch) SamplePairs() {
	if e.Pairs == nil {
		return
	}
	listed := make(map[ends]bool, len(e.Flows))
	for i := range e.Flows {
		listed[ends{e.Flows[i].Source, e.Flows[i].Destination}] = true
	}
	e.SampledPairs = e.Pairs.Thin(maxSentPairs, func(p *pairs.Pair) bool { return listed[ends{p.Source, p.Destination}] })
}

// encodePairs needs the flows in the order in which they are encoded.
func encodePairs(t *pairs.Thinned, flows []Flow) *epochpb.Pairs {
	levels := make(map[ends]uint8, len(t.Pairs))
	for i := range t.Pairs {
		levels[ends{t.Pairs[i].Source, t.Pairs[i].Destination}] = t.Pairs[i].Level + 1
	}
	message := &epochpb.Pairs{Level: uint32(t.Level)}
	listed := make(map[ends]bool, len(flows))
	for _, p := range pairUp(flows) {
		for _, i := range []int{p.first, p.second} {
			if i >= 0 {
				of := ends{flows[i].Source, flows[i].Destination}
				listed[of] = true
				message.FlowLevels = append(message.FlowLevels, levels[of])
			}
		}
	}
	for _, ipv4 := range []bool{true, false} {
		for i := range t.Pairs {
			p := &t.Pairs[i]
			if of := (ends{p.Source, p.Destination}); !listed[of] && ipv4 == (isIPv4(&p.Source) && isIPv4(&p.Destination)) {
				listed[of] = true
				appendPair(message, p, ipv4)
			}
		}
	}
	for i := range t.Crowded {
		message.Crowded = append(message.Crowded, encodeCrowded(&t.Crowded[i]))
	}
	return message
}

func appendPair(to *epochpb.Pairs, p *pairs.Pair, ipv4 bool) {
	from := 0
	if ipv4 {
		from = 12
		to.Ipv4++
	}
	to.Sources = append(to.Sources, p.Source[from:]...)
	to.Destinations = append(to.Destinations, p.Destination[from:]...)
	to.Levels = append(to.Levels, p.Level)
}

func encodeCrowded(c *pairs.Crowded) *epochpb.Crowded {
	address := c.Address[:]
	if isIPv4(&c.Address) {
		address = address[12:]
	}
	return &epochpb.Crowded{Dimension: epochpb.Dimension(c.Dimension), Address: address, Level: uint32(c.Level)}
}

// maxLevel is that of a hash of 64 zeros.
const maxLevel = 64

// decodePairs needs the flows.
func (e *Epoch) decodePairs(message *epochpb.Epoch) error {
	m := message.Pairs
	if m == nil {
		return nil
	}
	n, ipv4 := len(m.Levels), int(m.Ipv4)
	size := ipv4*4 + (n-ipv4)*16
	switch {
	case m.Level > maxLevel || ipv4 > n || len(m.Sources) != size || len(m.Destinations) != size || len(m.FlowLevels) != len(e.Flows):
		return invalid("pair columns of epoch %d", e.Sequence)
	case len(m.Crowded) > pairs.MaxCrowded:
		return invalid("%d crowded addresses, at most %d are read", len(m.Crowded), pairs.MaxCrowded)
	}
	t := &pairs.Thinned{Level: uint8(m.Level), Pairs: make([]pairs.Pair, 0, n)}
	for i, level := range m.FlowLevels {
		if level > 0 {
			t.Pairs = append(t.Pairs, pairs.Pair{Source: e.Flows[i].Source, Destination: e.Flows[i].Destination, Level: level - 1})
		}
	}
	sources, destinations := m.Sources, m.Destinations
	for i, level := range m.Levels {
		width := 16
		if i < ipv4 {
			width = 4
		}
		t.Pairs = append(t.Pairs, pairs.Pair{Source: address16(sources[:width]), Destination: address16(destinations[:width]), Level: level})
		sources, destinations = sources[width:], destinations[width:]
	}
	e.SampledPairs = t
	return e.decodeCrowded(m.Crowded)
}

func (e *Epoch) decodeCrowded(messages []*epochpb.Crowded) error {
	for _, m := range messages {
		known := m.Dimension == epochpb.Dimension_DIMENSION_SOURCE || m.Dimension == epochpb.Dimension_DIMENSION_DESTINATION
		if !known || m.Level > maxLevel || len(m.Address) != 4 && len(m.Address) != 16 {
			return invalid("a crowded address of %d bytes, dimension %d and level %d", len(m.Address), m.Dimension, m.Level)
		}
		e.SampledPairs.Crowded = append(e.SampledPairs.Crowded, pairs.Crowded{
			Dimension: flow.Dimension(m.Dimension), Address: address16(m.Address), Level: uint8(m.Level),
		})
	}
	for i := range e.SampledPairs.Pairs {
		if e.SampledPairs.Pairs[i].Level > maxLevel {
			return invalid("a pair of level %d", e.SampledPairs.Pairs[i].Level)
		}
	}
	return nil
}
