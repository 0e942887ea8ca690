// Package traffic generates packets of known flows between known addresses,
// by packet sockets, and counts per 5-tuple what the kernel took: the ground
// truth that measurements are compared with.
//
// The transport checksum of every packet is wrong on purpose, by one. The
// receiving kernel discards such a segment silently: no reset, no ICMP
// "unreachable", no state, so what is on the wire is exactly what was sent.
// Everything else about the packets is right, and whatever looks at them
// without verifying that checksum, as flow accounting does, sees ordinary
// traffic.
package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Limits of a run, so that a mistake in a flag can't load a network for ever.
const (
	MaxPackets  = 10_000_000_000
	MaxDuration = 24 * time.Hour
	MaxFlows    = 4_000_000
)

// Mode is the kind of traffic.
type Mode string

// The modes: Normal is flows between the sources and the destinations; Heavy
// is an attack on the first destination, a flood and a port scan, together
// with a few elephants.
const (
	Normal Mode = "normal"
	Heavy  Mode = "heavy"
)

// Modes lists all modes as text.
var Modes = []string{string(Normal), string(Heavy)}

// Configuration says what is sent. The flows and the order of their packets
// are functions of it, the seed included.
type Configuration struct {
	Seed uint64
	Mode Mode
	// Packets is how many packets are sent; if it is 0, as many as Rate and
	// Duration come to.
	Packets uint64
	// Duration ends the run even if packets are left; 0 is no such limit.
	Duration time.Duration
	// Rate is in packets per second; 0 is as fast as the kernel takes them.
	Rate float64
	// Flows is the number of distinct 5-tuples. Each has at least one packet.
	Flows int
	// Distribution is that of packets over flows.
	Distribution Distribution
	// FrameSize is the range of a data packet's length on the wire, layer-2
	// header included, uniformly drawn; packets are never shorter than their
	// headers. SYN and FIN carry no data.
	FrameSize SizeRange
	// UDPShare is the share of flows that are UDP; the others are TCP.
	UDPShare float64
	// IPv6Share is the share of flows that are IPv6; the others are IPv4.
	IPv6Share float64
	// Sources and Destinations are what addresses are drawn from.
	Sources, Destinations []netip.Prefix
	// Spoofed is what the sources of a flood are drawn from; Sources if empty.
	Spoofed []netip.Prefix
	// Ports are the destination ports.
	Ports []uint16
}

// SizeRange is a range of frame lengths in bytes, both included.
type SizeRange struct{ Min, Max int }

// The shortest and longest frame that a data packet may have: an IPv4 UDP
// packet without data, and an Ethernet frame with the usual MTU of 1500.
const (
	MinFrameSize = 42
	MaxFrameSize = 1514
)

// DefaultConfiguration is normal traffic of 1,000 packets/s, without
// addresses and without an end, both of which must be given.
func DefaultConfiguration() Configuration {
	return Configuration{
		Seed: 1, Mode: Normal, Rate: 1000, Flows: 300,
		Distribution: Distribution{Kind: Zipf, Exponent: 1},
		FrameSize:    SizeRange{Min: MinFrameSize, Max: MaxFrameSize},
		UDPShare:     0.4, IPv6Share: 0.3,
		Ports: []uint16{22, 53, 80, 123, 443, 3306, 5432, 8080, 9090},
	}
}

// total is how many packets the run is to send.
func (c Configuration) total() uint64 {
	if c.Packets > 0 {
		return c.Packets
	}
	return uint64(c.Rate * c.Duration.Seconds())
}

// Validate says what is wrong with the configuration.
func (c Configuration) Validate() error {
	switch {
	case c.Mode != Normal && c.Mode != Heavy:
		return fmt.Errorf("mode %q: allowed are normal and heavy", c.Mode)
	case len(c.Sources) == 0:
		return errors.New("no sources")
	case len(c.Destinations) == 0:
		return errors.New("no destinations")
	case len(c.Ports) == 0:
		return errors.New("no destination ports")
	case !(c.Rate >= 0):
		return fmt.Errorf("rate %v: must not be negative", c.Rate)
	case c.Duration < 0 || c.Duration > MaxDuration:
		return fmt.Errorf("duration %v: must be from 0 to %v", c.Duration, MaxDuration)
	case c.Flows < 1 || c.Flows > MaxFlows:
		return fmt.Errorf("%d flows: must be from 1 to %d", c.Flows, MaxFlows)
	case c.FrameSize.Min < MinFrameSize || c.FrameSize.Max > MaxFrameSize || c.FrameSize.Min > c.FrameSize.Max:
		return fmt.Errorf("frame size %d-%d: must be a range from %d to %d", c.FrameSize.Min, c.FrameSize.Max, MinFrameSize, MaxFrameSize)
	case !(c.UDPShare >= 0 && c.UDPShare <= 1):
		return fmt.Errorf("UDP share %v: must be from 0 to 1", c.UDPShare)
	case !(c.IPv6Share >= 0 && c.IPv6Share <= 1):
		return fmt.Errorf("IPv6 share %v: must be from 0 to 1", c.IPv6Share)
	}
	return errors.Join(c.Distribution.validate(), c.validateTotal())
}

func (c Configuration) validateTotal() error {
	total := c.total()
	switch {
	case c.Packets == 0 && (c.Duration == 0 || c.Rate == 0):
		return errors.New("no end: give packets, or a duration and a rate")
	case total > MaxPackets:
		return fmt.Errorf("%d packets: at most %d are allowed", total, uint64(MaxPackets))
	case total < uint64(c.Flows):
		return fmt.Errorf("%d packets are too few for %d flows", total, c.Flows)
	}
	return nil
}
