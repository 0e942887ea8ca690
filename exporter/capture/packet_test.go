package capture

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// packet is what goes through the program, and the key that it must have.
type packet struct {
	data []byte
	key  flow.Key
}

// serialize makes a packet of layers.
func serialize(all ...gopacket.SerializableLayer) []byte {
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, all...); err != nil {
		panic(err)
	}
	return buffer.Bytes()
}

func ethernet(t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: t}
}

func ipv4(p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: []byte{10, 1, 2, 3}, DstIP: []byte{10, 4, 5, 6}}
}

func ipv6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{
		Version: 6, HopLimit: 64, NextHeader: next,
		SrcIP: netip.MustParseAddr("fd00:1::3").AsSlice(), DstIP: netip.MustParseAddr("fd00:2::6").AsSlice(),
	}
}

var (
	tcp = &layers.TCP{SrcPort: 4000, DstPort: 443, ACK: true}
	udp = &layers.UDP{SrcPort: 5000, DstPort: 53}
)

func payload(n int) gopacket.Payload { return make([]byte, n) }

// key4 and key6 are the keys of ipv4 and ipv6.
func key4(protocol uint8, sourcePort, destinationPort uint16) flow.Key {
	return flow.Key{
		Source: netip.MustParseAddr("10.1.2.3").As16(), Destination: netip.MustParseAddr("10.4.5.6").As16(),
		SourcePort: sourcePort, DestinationPort: destinationPort, Protocol: protocol,
	}
}

func key6(protocol uint8, sourcePort, destinationPort uint16) flow.Key {
	return flow.Key{
		Source: netip.MustParseAddr("fd00:1::3").As16(), Destination: netip.MustParseAddr("fd00:2::6").As16(),
		SourcePort: sourcePort, DestinationPort: destinationPort, Protocol: protocol,
	}
}

// udpPacket makes the n-th of many flows.
func udpPacket(n uint32, size int) packet {
	source := [4]byte{}
	binary.BigEndian.PutUint32(source[:], 10<<24|n)
	ip := ipv4(layers.IPProtocolUDP)
	ip.SrcIP = source[:]
	key := key4(flow.ProtocolUDP, 5000, 53)
	key.Source = netip.AddrFrom4(source).As16()
	return packet{serialize(ethernet(layers.EthernetTypeIPv4), ip, udp, payload(size)), key}
}

func tag(inner layers.EthernetType) *layers.Dot1Q {
	return &layers.Dot1Q{VLANIdentifier: 7, Type: inner}
}

// fragment4 is of a UDP datagram; the offset is in units of 8 bytes.
func fragment4(offset uint16) *layers.IPv4 {
	ip := ipv4(layers.IPProtocolUDP)
	ip.FragOffset = offset
	return ip
}

// extension is an IPv6 extension header of 8 bytes.
func extension(next layers.IPProtocol) gopacket.Payload {
	return gopacket.Payload{uint8(next), 0, 0, 0, 0, 0, 0, 0}
}

func options(ip *layers.IPv4) *layers.IPv4 {
	ip.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: make([]byte, 5)}}
	return ip
}

// serialUDP is a UDP header as bytes, to follow bytes.
var serialUDP = gopacket.Payload(serialize(udp, payload(20)))

// claiming returns an IPv4 packet with another total length.
func claiming(total uint16, frame []byte) []byte {
	frame = slices.Clone(frame)
	binary.BigEndian.PutUint16(frame[14+2:], total)
	return frame
}

// claiming6 returns an IPv6 packet with another payload length.
func claiming6(length uint16, frame []byte) []byte {
	frame = slices.Clone(frame)
	binary.BigEndian.PutUint16(frame[14+4:], length)
	return frame
}

// authentication is an AH of 24 bytes.
func authentication(next layers.IPProtocol) gopacket.Payload {
	return append(gopacket.Payload{uint8(next), 4}, make([]byte, 22)...)
}

// jumbo is a Hop-by-Hop header with the jumbo payload option (RFC 2675).
func jumbo(next layers.IPProtocol) gopacket.Payload {
	return gopacket.Payload{uint8(next), 0, 0xc2, 4, 0, 1, 0, 0}
}

// fragment6 is an IPv6 fragment header; the offset is in bytes.
func fragment6(next layers.IPProtocol, offset uint16, more byte) gopacket.Payload {
	return gopacket.Payload{uint8(next), 0, byte(offset >> 8), byte(offset) | more, 0, 0, 0, 9}
}

const (
	eth4, eth6 = layers.EthernetTypeIPv4, layers.EthernetTypeIPv6
	ethQ       = layers.EthernetTypeDot1Q

	protocolTCP, protocolUDP         = layers.IPProtocolTCP, layers.IPProtocolUDP
	protocolICMP, protocolICMPv6     = layers.IPProtocolICMPv4, layers.IPProtocolICMPv6
	protocolHopByHop, protocolOption = layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Destination
	protocolFragment, protocolAH     = layers.IPProtocolIPv6Fragment, layers.IPProtocolAH
)

// extended serializes and pads, as Ethernet does to 60 bytes.
func extended(length int, all ...gopacket.SerializableLayer) []byte {
	frame := serialize(all...)
	return append(frame, make([]byte, max(0, length-len(frame)))...)
}

// counted are packets with a key.
var counted = map[string]packet{
	"IPv4 TCP":                {serialize(ethernet(eth4), ipv4(protocolTCP), tcp), key4(6, 4000, 443)},
	"IPv4 UDP":                {serialize(ethernet(eth4), ipv4(protocolUDP), udp), key4(17, 5000, 53)},
	"IPv4 UDP-Lite":           {serialize(ethernet(eth4), ipv4(layers.IPProtocolUDPLite), serialUDP), key4(136, 5000, 53)},
	"IPv4 SCTP":               {serialize(ethernet(eth4), ipv4(layers.IPProtocolSCTP), serialUDP), key4(132, 5000, 53)},
	"IPv4 DCCP":               {serialize(ethernet(eth4), ipv4(33), serialUDP), key4(33, 5000, 53)},
	"IPv4 with options":       {serialize(ethernet(eth4), options(ipv4(protocolUDP)), udp), key4(17, 5000, 53)},
	"IPv4 ICMP error":         {serialize(ethernet(eth4), ipv4(protocolICMP), gopacket.Payload{3, 1, 0, 0, 0, 0, 0, 0}, gopacket.Payload(serialize(ipv4(protocolUDP), udp))), key4(1, 3, 1)},
	"IPv4 ICMP without body":  {extended(60, ethernet(eth4), ipv4(protocolICMP), gopacket.Payload{8, 0, 0, 0}), key4(1, 8, 0)},
	"IPv4 GRE":                {serialize(ethernet(eth4), ipv4(layers.IPProtocolGRE), payload(20)), key4(47, 0, 0)},
	"IPv4 ESP":                {serialize(ethernet(eth4), ipv4(layers.IPProtocolESP), payload(20)), key4(50, 0, 0)},
	"IPv4 AH, UDP":            {serialize(ethernet(eth4), ipv4(protocolAH), authentication(protocolUDP), serialUDP), key4(17, 5000, 53)},
	"IPv4 protocol 0":         {serialize(ethernet(eth4), ipv4(0), serialUDP), key4(0, 0, 0)},
	"IPv4 in IPv4":            {serialize(ethernet(eth4), ipv4(4), gopacket.Payload(serialize(ipv4(protocolUDP), udp))), key4(4, 0, 0)},
	"6in4":                    {serialize(ethernet(eth4), ipv4(41), gopacket.Payload(serialize(ipv6(protocolUDP), udp))), key4(41, 0, 0)},
	"IPv4 first fragment":     {serialize(ethernet(eth4), fragment4(0), udp), key4(17, 5000, 53)},
	"IPv4 later fragment":     {serialize(ethernet(eth4), fragment4(100), udp), key4(17, 0, 0)},
	"IPv4 empty fragment":     {serialize(ethernet(eth4), fragment4(1)), key4(17, 0, 0)},
	"IPv4 longer than frame":  {claiming(9000, serialize(ethernet(eth4), ipv4(protocolTCP), tcp)), key4(6, 4000, 443)},
	"IPv4 empty GRE, padded":  {extended(60, ethernet(eth4), ipv4(layers.IPProtocolGRE)), key4(47, 0, 0)},
	"IPv4 ends behind ports":  {claiming(24, serialize(ethernet(eth4), ipv4(protocolUDP), udp)), key4(17, 5000, 53)},
	"IPv6 TCP":                {serialize(ethernet(eth6), ipv6(protocolTCP), tcp), key6(6, 4000, 443)},
	"IPv6 UDP":                {serialize(ethernet(eth6), ipv6(protocolUDP), udp), key6(17, 5000, 53)},
	"IPv6 ICMPv6":             {serialize(ethernet(eth6), ipv6(protocolICMPv6), gopacket.Payload{135, 0, 0, 0}), key6(58, 135, 0)},
	"IPv6 no next header":     {serialize(ethernet(eth6), ipv6(layers.IPProtocolNoNextHeader)), key6(59, 0, 0)},
	"IPv6 mobility":           {serialize(ethernet(eth6), ipv6(135), extension(layers.IPProtocolNoNextHeader)), key6(135, 0, 0)},
	"IPv6 options":            {serialize(ethernet(eth6), ipv6(protocolHopByHop), extension(protocolOption), extension(protocolUDP), serialUDP), key6(17, 5000, 53)},
	"IPv6 routing":            {serialize(ethernet(eth6), ipv6(layers.IPProtocolIPv6Routing), gopacket.Payload(append([]byte{6, 1}, make([]byte, 14)...)), serialUDP), key6(6, 5000, 53)},
	"IPv6 eight options":      {serialize(chained(8)...), key6(17, 5000, 53)},
	"IPv6 AH, UDP":            {serialize(ethernet(eth6), ipv6(protocolAH), authentication(protocolUDP), serialUDP), key6(17, 5000, 53)},
	"IPv6 ESP":                {serialize(ethernet(eth6), ipv6(layers.IPProtocolESP), payload(20)), key6(50, 0, 0)},
	"IPv6 first fragment":     {serialize(ethernet(eth6), ipv6(protocolFragment), fragment6(protocolUDP, 0, 1), serialUDP), key6(17, 5000, 53)},
	"IPv6 atomic fragment":    {serialize(ethernet(eth6), ipv6(protocolFragment), fragment6(protocolUDP, 0, 0), serialUDP), key6(17, 5000, 53)},
	"IPv6 later fragment":     {serialize(ethernet(eth6), ipv6(protocolFragment), fragment6(protocolUDP, 256, 0), serialUDP), key6(17, 0, 0)},
	"IPv6 fragmented options": {serialize(ethernet(eth6), ipv6(protocolFragment), fragment6(protocolOption, 256, 0), serialUDP), key6(60, 0, 0)},
	"IPv6 jumbogram":          {claiming6(0, serialize(ethernet(eth6), ipv6(protocolHopByHop), jumbo(protocolUDP), serialUDP)), key6(17, 5000, 53)},
	"IPv6 longer than frame":  {claiming6(9000, serialize(ethernet(eth6), ipv6(protocolTCP), tcp)), key6(6, 4000, 443)},
	"802.1Q":                  {serialize(ethernet(ethQ), tag(eth4), ipv4(protocolUDP), udp), key4(17, 5000, 53)},
	"802.1ad, IPv6":           {serialize(ethernet(layers.EthernetTypeQinQ), tag(ethQ), tag(eth6), ipv6(protocolTCP), tcp), key6(6, 4000, 443)},
	"padded to 60":            {extended(60, ethernet(eth4), ipv4(protocolUDP), udp), key4(17, 5000, 53)},
	"with a payload":          {serialize(ethernet(eth4), ipv4(protocolTCP), tcp, payload(1400)), key4(6, 4000, 443)},
	"VXLAN":                   {vxlan, key4(17, 5000, 4789)},
}

// chained is an IPv6 UDP packet with n extension headers.
func chained(n int) []gopacket.SerializableLayer {
	all := []gopacket.SerializableLayer{ethernet(eth6), ipv6(protocolOption)}
	for range n - 1 {
		all = append(all, extension(protocolOption))
	}
	return append(all, extension(protocolUDP), serialUDP)
}

// vxlan is a TCP segment with 100 bytes of data in a tunnel of RFC 7348.
var vxlan = serialize(ethernet(eth4), ipv4(protocolUDP), &layers.UDP{SrcPort: 5000, DstPort: 4789},
	gopacket.Payload{8, 0, 0, 0, 0, 0, 1, 0}, ethernet(eth6), ipv6(protocolTCP), tcp, payload(100))

// whole4 and whole6 are for cutting. They have a tag, because Program.Run refuses IP
// packets without a whole IP header.
var (
	whole4 = serialize(ethernet(ethQ), tag(eth4), ipv4(protocolUDP), udp)
	whole6 = serialize(ethernet(ethQ), tag(eth6), ipv6(protocolUDP), udp)
)

// changed returns a frame with another byte.
func changed(at int, to byte, frame []byte) []byte {
	frame = slices.Clone(frame)
	frame[at] = to
	return frame
}

// uncounted are packets without a key.
var uncounted = map[string]struct {
	data   []byte
	reason string
}{
	"ARP":                       {serialize(ethernet(layers.EthernetTypeARP), payload(46)), "not_ip"},
	"LLDP":                      {serialize(ethernet(layers.EthernetTypeLinkLayerDiscovery), payload(46)), "not_ip"},
	"LLC":                       {append(serialize(ethernet(0))[:12], append([]byte{0, 46}, make([]byte, 46)...)...), "not_ip"},
	"MPLS":                      {serialize(ethernet(layers.EthernetTypeMPLSUnicast), gopacket.Payload{0, 1, 1, 64}, ipv4(protocolUDP), udp), "encapsulated"},
	"PPPoE":                     {serialize(ethernet(layers.EthernetTypePPPoESession), gopacket.Payload{0x11, 0, 0, 1, 0, 30, 0, 0x21}, ipv4(protocolUDP), udp), "encapsulated"},
	"PPPoE discovery":           {serialize(ethernet(layers.EthernetTypePPPoEDiscovery), payload(46)), "not_ip"},
	"three tags":                {serialize(ethernet(ethQ), tag(ethQ), tag(ethQ), tag(eth4), ipv4(protocolUDP), udp), "encapsulated"},
	"tag cut off":               {whole4[:14+2], "truncated"},
	"IPv4 header cut off":       {whole4[:18+19], "truncated"},
	"IPv4 ports cut off":        {whole4[:18+20+3], "truncated"},
	"IPv4 options cut off":      {changed(18, 0x4f, claiming4Q(60, whole4)), "truncated"},
	"IPv4 ports in the padding": {claiming(22, serialize(ethernet(eth4), ipv4(protocolUDP), udp, payload(20))), "truncated"},
	"IPv4 without payload":      {extended(60, ethernet(eth4), ipv4(protocolTCP)), "truncated"},
	"IPv4 ICMP cut off":         {serialize(ethernet(eth4), ipv4(protocolICMP), payload(3)), "truncated"},
	"IPv4 AH cut off":           {serialize(ethernet(eth4), ipv4(protocolAH), authentication(protocolUDP)[:20]), "truncated"},
	"IPv6 header cut off":       {whole6[:18+39], "truncated"},
	"IPv6 ports cut off":        {whole6[:18+40+3], "truncated"},
	"IPv6 ports in the padding": {claiming6(3, serialize(ethernet(eth6), ipv6(protocolUDP), udp, payload(20))), "truncated"},
	"IPv6 extension cut off":    {serialize(ethernet(eth6), ipv6(protocolHopByHop), payload(1)), "truncated"},
	"IPv6 options cut off":      {serialize(ethernet(eth6), ipv6(protocolOption), gopacket.Payload{59, 4, 0, 0, 0, 0, 0, 0}), "truncated"},
	"IPv6 fragment cut off":     {serialize(ethernet(eth6), ipv6(protocolFragment), fragment6(protocolUDP, 256, 0)[:7]), "truncated"},
	"IPv4 of another version":   {changed(14, 0x55, serialize(ethernet(eth4), ipv4(protocolUDP), udp)), "malformed"},
	"IPv4 with a short header":  {changed(14, 0x44, serialize(ethernet(eth4), ipv4(protocolUDP), udp)), "malformed"},
	"IPv4 ends in its options":  {claiming(22, serialize(ethernet(eth4), options(ipv4(protocolUDP)), udp)), "malformed"},
	"IPv4 below its header":     {claiming(19, serialize(ethernet(eth4), ipv4(protocolUDP), udp)), "malformed"},
	"IPv4 of length 0":          {claiming(0, serialize(ethernet(eth4), ipv4(protocolUDP), udp)), "malformed"},
	"IPv6 of another version":   {serialize(ethernet(eth6), payload(60)), "malformed"},
	"nine IPv6 extensions":      {serialize(chained(9)...), "extensions"},
	"endless IPv6 extensions":   {serialize(chained(100)...), "extensions"},
}

// claiming4Q is claiming for a packet with a tag.
func claiming4Q(total uint16, frame []byte) []byte {
	frame = slices.Clone(frame)
	binary.BigEndian.PutUint16(frame[18+2:], total)
	return frame
}

// craftedPackets are all of these, in a fixed order.
func craftedPackets() [][]byte {
	var all [][]byte
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		all = append(all, counted[name].data)
	}
	for _, name := range slices.Sorted(maps.Keys(uncounted)) {
		all = append(all, uncounted[name].data)
	}
	return all
}

// both are the directions.
var both = []flow.Direction{flow.Ingress, flow.Egress}

func TestPacketsWithKey(t *testing.T) {
	c := newTestCapture(t, smallMemory)
	for name, test := range counted {
		t.Run(name, func(t *testing.T) {
			for _, direction := range both {
				s := &sighting{data: test.data, direction: direction}
				want := verdict{key: test.key, count: epoch.Count{Packets: 1, Bytes: uint64(len(test.data))}}
				if v := judge(s); v != want {
					t.Fatalf("the oracle says %+v, want %+v", v, want)
				}
				c.see(t, s)
			}
		})
	}
}

func TestPacketsWithoutKeyHaveAReason(t *testing.T) {
	c := newTestCapture(t, smallMemory)
	for name, test := range uncounted {
		t.Run(name, func(t *testing.T) {
			for _, direction := range both {
				s := &sighting{data: test.data, direction: direction}
				want := verdict{reason: test.reason, count: epoch.Count{Packets: 1, Bytes: uint64(len(test.data))}}
				if v := judge(s); v != want {
					t.Fatalf("the oracle says %+v, want %+v", v, want)
				}
				c.see(t, s)
			}
		})
	}
}

// A packet of a layer-3 device is the same without its Ethernet header.
func TestLayer3(t *testing.T) {
	c := newTestCapture(t, smallMemory)
	for name, test := range counted {
		etherType := layers.EthernetType(binary.BigEndian.Uint16(test.data[12:]))
		if etherType != eth4 && etherType != eth6 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s := &sighting{data: runnable(test.data[14:], true), layer3: true}
			s.protocol = runProtocol(s.data)
			if v := judge(s); v.key != test.key {
				t.Fatalf("the oracle says %+v, want %+v", v, test.key)
			}
			c.see(t, s)
		})
	}
}

// runProtocol is skb->protocol of what Program.Run takes as an Ethernet frame.
func runProtocol(data []byte) uint16 { return binary.BigEndian.Uint16(data[12:]) }

// Segments have hand-counted wire counts: n packets, the data, and n times the headers.
func TestSegments(t *testing.T) {
	tests := map[string]struct {
		frame         []byte
		headers, data int
		known         bool
	}{
		"IPv4 TCP": {serialize(ethernet(eth4), ipv4(protocolTCP), tcp, payload(3000)), 14 + 20 + 20, 3000, true},
		"IPv6 TCP": {serialize(ethernet(eth6), ipv6(protocolTCP), tcp, payload(3000)), 14 + 40 + 20, 3000, true},
		"IPv6 UDP": {serialize(ethernet(eth6), ipv6(protocolUDP), udp, payload(3000)), 14 + 40 + 8, 3000, true},
		"tagged":   {serialize(ethernet(ethQ), tag(eth4), ipv4(protocolTCP), tcp, payload(3000)), 18 + 20 + 20, 3000, true},
		"SCTP":     {serialize(ethernet(eth4), ipv4(layers.IPProtocolSCTP), payload(12), payload(3000)), 14 + 20 + 12, 3000, true},
		"BIG TCP":  {claiming(0, serialize(ethernet(eth4), ipv4(protocolTCP), tcp, payload(3000))), 14 + 20 + 20, 3000, true},
		"VXLAN":    {vxlan, 14 + 20 + 8 + 8 + 14 + 40 + 20, 100, true},
		"GRE":      {serialize(ethernet(eth4), ipv4(layers.IPProtocolGRE), gopacket.Payload{0x20, 0, 8, 0, 0, 0, 0, 1}, ipv4(protocolTCP), tcp, payload(300)), 14 + 20 + 8 + 20 + 20, 300, true},
		"6in4":     {serialize(ethernet(eth4), ipv4(41), ipv6(protocolUDP), udp, payload(300)), 14 + 20 + 40 + 8, 300, true},
		"ESP":      {serialize(ethernet(eth4), ipv4(layers.IPProtocolESP), payload(300)), 0, 14 + 20 + 300, false},
		"MPLS":     {serialize(ethernet(layers.EthernetTypeMPLSUnicast), gopacket.Payload{0, 1, 1, 64}, ipv4(protocolTCP), tcp, payload(300)), 0, 14 + 4 + 40 + 300, false},
	}
	c := newTestCapture(t, smallMemory)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 99, 100, 101, test.data - 1, test.data, test.data + 1} {
				for _, direction := range both {
					segments := (test.data + size - 1) / size
					want := epoch.Count{Packets: uint64(segments), Bytes: uint64(test.data + segments*test.headers)}
					wireLen := len(test.frame) + 7*segments
					if !test.known && direction == flow.Egress && segments > 1 {
						want.Bytes = uint64(wireLen)
					}
					for _, given := range []int{0, segments} {
						s := &sighting{data: test.frame, direction: direction, gsoSize: size, gsoSegs: given, wireLen: wireLen}
						if v := judge(s); v.count != want {
							t.Fatalf("the oracle says %v, want %v: %d segments, given %d", v.count, want, segments, given)
						}
						c.see(t, s)
					}
				}
			}
		})
	}
}

// Every reason of the kernel's enum has a label of its own.
func TestReasonsHaveLabels(t *testing.T) {
	var kernel *btf.Enum
	spec, err := bpf.LoadCapture()
	must(t, err)
	must(t, spec.Types.TypeByName("reason", &kernel))
	if want := len(kernel.Values) - 1; len(reasons) != want {
		t.Fatalf("%d labels for %d reasons", len(reasons), want)
	}
	for _, value := range kernel.Values {
		name, _ := strings.CutPrefix(strings.ToLower(value.Name), "reason_")
		switch {
		case value.Name == "REASONS":
		case value.Name == "REASON_NONE":
			name = ""
			fallthrough
		default:
			if reasons[value.Value] != name {
				t.Errorf("%s has the label %q, want %q", value.Name, reasons[value.Value], name)
			}
		}
	}
}
