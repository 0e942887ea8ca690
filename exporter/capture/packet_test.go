package capture

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

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

func TestParse(t *testing.T) {
	const eth4, eth6 = layers.EthernetTypeIPv4, layers.EthernetTypeIPv6
	tests := map[string]packet{
		"IPv4 TCP":          {serialize(ethernet(eth4), ipv4(layers.IPProtocolTCP), tcp), key4(6, 4000, 443)},
		"IPv4 UDP":          {serialize(ethernet(eth4), ipv4(layers.IPProtocolUDP), udp), key4(17, 5000, 53)},
		"IPv4 with options": {serialize(ethernet(eth4), options(ipv4(layers.IPProtocolUDP)), udp), key4(17, 5000, 53)},
		"IPv4 ICMP": {
			serialize(ethernet(eth4), ipv4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 1)}),
			key4(1, 3, 1),
		},
		"IPv4 GRE":                 {serialize(ethernet(eth4), ipv4(layers.IPProtocolGRE), payload(20)), key4(47, 0, 0)},
		"IPv4 first fragment":      {serialize(ethernet(eth4), fragment4(0), udp), key4(17, 5000, 53)},
		"IPv4 later fragment":      {serialize(ethernet(eth4), fragment4(100), udp), key4(17, 0, 0)},
		"IPv6 TCP":                 {serialize(ethernet(eth6), ipv6(layers.IPProtocolTCP), tcp), key6(6, 4000, 443)},
		"IPv6 ICMPv6":              {serialize(ethernet(eth6), ipv6(layers.IPProtocolICMPv6), gopacket.Payload{135, 0, 0, 0}), key6(58, 135, 0)},
		"IPv6 no next header":      {serialize(ethernet(eth6), ipv6(layers.IPProtocolNoNextHeader)), key6(59, 0, 0)},
		"IPv6 hop-by-hop, options": {serialize(ethernet(eth6), ipv6(layers.IPProtocolIPv6HopByHop), extension(layers.IPProtocolIPv6Destination), extension(layers.IPProtocolUDP), serialUDP), key6(17, 5000, 53)},
		"IPv6 first fragment": {
			serialize(ethernet(eth6), ipv6(layers.IPProtocolIPv6Fragment), gopacket.Payload{17, 0, 0, 1, 0, 0, 0, 9}, serialUDP),
			key6(17, 5000, 53),
		},
		"IPv6 later fragment": {
			serialize(ethernet(eth6), ipv6(layers.IPProtocolIPv6Fragment), gopacket.Payload{17, 0, 1, 0, 0, 0, 0, 9}, serialUDP),
			key6(17, 0, 0),
		},
		"802.1Q":         {serialize(ethernet(layers.EthernetTypeDot1Q), tag(eth4), ipv4(layers.IPProtocolUDP), udp), key4(17, 5000, 53)},
		"802.1ad, IPv6":  {serialize(ethernet(layers.EthernetTypeQinQ), tag(layers.EthernetTypeDot1Q), tag(eth6), ipv6(layers.IPProtocolTCP), tcp), key6(6, 4000, 443)},
		"padded to 60":   {append(serialize(ethernet(eth4), ipv4(layers.IPProtocolUDP), udp), make([]byte, 18)...), key4(17, 5000, 53)},
		"with a payload": {serialize(ethernet(eth4), ipv4(layers.IPProtocolTCP), tcp, payload(1400)), key4(6, 4000, 443)},
	}
	c := newTestCapture(t, 16<<20)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c.run(t, test.data)
			e := c.epoch(t)
			if len(e.Flows) != 1 {
				t.Fatalf("%d flows, want 1; devices %+v", len(e.Flows), e.Devices)
			}
			f := &e.Flows[0]
			if f.Key != test.key {
				t.Errorf("key %+v, want %+v", f.Key, test.key)
			}
			if want := (epoch.Count{Packets: 1, Bytes: uint64(len(test.data))}); f.Count != want {
				t.Errorf("counts %v, want %v", f.Count, want)
			}
			if f.Direction != flow.Ingress {
				t.Errorf("direction %v", f.Direction)
			}
		})
	}
}

func TestPacketsWithoutKeyHaveAReason(t *testing.T) {
	const eth4, eth6 = layers.EthernetTypeIPv4, layers.EthernetTypeIPv6
	// Cut packets have a tag, because Program.Run itself refuses others.
	whole4 := serialize(ethernet(layers.EthernetTypeDot1Q), tag(eth4), ipv4(layers.IPProtocolUDP), udp)
	whole6 := serialize(ethernet(layers.EthernetTypeDot1Q), tag(eth6), ipv6(layers.IPProtocolUDP), udp)
	wrongVersion := serialize(ethernet(eth4), ipv4(layers.IPProtocolUDP), udp)
	wrongVersion[14] = 0x55
	shortHeader := serialize(ethernet(eth4), ipv4(layers.IPProtocolUDP), udp)
	shortHeader[14] = 0x44
	endless := []gopacket.SerializableLayer{ethernet(eth6), ipv6(layers.IPProtocolIPv6Destination)}
	for range 20 {
		endless = append(endless, extension(layers.IPProtocolIPv6Destination))
	}
	tests := map[string]struct {
		data   []byte
		reason string
	}{
		"ARP":                      {serialize(ethernet(layers.EthernetTypeARP), payload(46)), "not_ip"},
		"LLDP":                     {serialize(ethernet(layers.EthernetTypeLinkLayerDiscovery), payload(46)), "not_ip"},
		"three tags":               {serialize(ethernet(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeDot1Q), tag(eth4), ipv4(layers.IPProtocolUDP), udp), "encapsulated"},
		"tag cut off":              {whole4[:14+2], "truncated"},
		"IPv4 header cut off":      {whole4[:18+19], "truncated"},
		"IPv4 ports cut off":       {whole4[:18+20+3], "truncated"},
		"IPv6 header cut off":      {whole6[:18+39], "truncated"},
		"IPv6 ports cut off":       {whole6[:18+40+3], "truncated"},
		"IPv6 extension cut off":   {serialize(ethernet(eth6), ipv6(layers.IPProtocolIPv6HopByHop), payload(1)), "truncated"},
		"IPv4 of another version":  {wrongVersion, "malformed"},
		"IPv4 with a short header": {shortHeader, "malformed"},
		"IPv6 of another version":  {serialize(ethernet(eth6), payload(60)), "malformed"},
		"endless IPv6 extensions":  {serialize(endless...), "extensions"},
	}
	c := newTestCapture(t, 16<<20)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c.run(t, test.data)
			e := c.epoch(t)
			if len(e.Flows) != 0 || len(e.Devices) != 1 {
				t.Fatalf("flows %+v, devices %+v; want no flow and one device", e.Flows, e.Devices)
			}
			want := epoch.Reason{Reason: test.reason, Count: epoch.Count{Packets: 1, Bytes: uint64(len(test.data))}}
			if others := e.Devices[0].Others; len(others) != 1 || others[0] != want {
				t.Errorf("counted under %+v, want %+v", others, want)
			}
		})
	}
}
