package flow

import (
	"fmt"
	"strconv"
)

// Direction is that of a packet seen by a device, from the host's side.
type Direction uint8

// The directions, in the order in which the kernel program numbers them.
const (
	Ingress Direction = iota
	Egress
)

// String returns the direction as metrics and the API spell it.
func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// Dimension is the address of a flow by which traffic is summed.
type Dimension uint8

// The dimensions.
const (
	Source Dimension = iota
	Destination
)

// Dimensions lists both, for loops.
var Dimensions = [...]Dimension{Source, Destination}

// String returns the dimension as metrics and the API spell it.
func (d Dimension) String() string {
	if d == Destination {
		return "destination"
	}
	return "source"
}

// ParseDimension is the inverse of String.
func ParseDimension(s string) (Dimension, error) {
	for _, d := range Dimensions {
		if s == d.String() {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%q isn't a dimension; allowed: source, destination", s)
}

// Protocol numbers that the code refers to (IANA's protocol numbers registry).
const (
	ProtocolICMP   = 1
	ProtocolTCP    = 6
	ProtocolUDP    = 17
	ProtocolICMPv6 = 58
)

var protocolNames = map[uint8]string{
	ProtocolICMP: "icmp", 2: "igmp", 4: "ipv4", ProtocolTCP: "tcp", 8: "egp", 9: "igp", ProtocolUDP: "udp",
	27: "rdp", protocolDCCP: "dccp", 41: "ipv6", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah",
	ProtocolICMPv6: "ipv6-icmp", 88: "eigrp", 89: "ospf", 94: "ipip", 97: "etherip", 98: "encap",
	103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp", 124: "isis-over-ipv4", protocolSCTP: "sctp",
	135: "mobility-header", protocolUDPLite: "udplite", 137: "mpls-in-ip", 139: "hip", 140: "shim6",
	142: "rohc", 143: "ethernet",
}

// ProtocolName returns IANA's keyword in lower case where TMA knows it, and
// the number otherwise.
func ProtocolName(p uint8) string {
	if name, ok := protocolNames[p]; ok {
		return name
	}
	return strconv.Itoa(int(p))
}

// ParseProtocol is the inverse of ProtocolName; it also takes any number.
func ParseProtocol(s string) (uint8, error) {
	for p, name := range protocolNames {
		if s == name {
			return p, nil
		}
	}
	p, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%q isn't a protocol; allowed: a name such as tcp, udp, icmp, or a number from 0 to 255", s)
	}
	return uint8(p), nil
}
