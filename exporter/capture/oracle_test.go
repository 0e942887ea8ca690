package capture

import (
	"encoding/binary"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// This file is the oracle: what a packet must be counted as, read from the RFCs the
// slow way, without the kernel program's order of questions, loads or shortcuts. The
// decisions that the RFCs leave open are listed in bpf/parse.h and bpf/wire.h.

// sighting is a packet as a hook gets it.
type sighting struct {
	data      []byte
	direction flow.Direction
	layer3    bool   // of a device whose packets begin with the IP header
	protocol  uint16 // skb->protocol; matters at layer 3
	tagged    bool   // a VLAN tag is in metadata
	gsoSize   int    // 0: what is seen is one packet on the wire
	gsoSegs   int    // 0: not known
	wireLen   int    // the kernel's estimate
}

// verdict is what a sighting counts as: under the key, or, if there is one, under the
// reason.
type verdict struct {
	key    flow.Key
	reason string
	count  epoch.Count
}

// found is where the oracle's reading of a packet ends.
type found struct {
	key       flow.Key
	reason    string
	transport []byte // from the transport header to the end of the whole packet
}

// judge says what a sighting must be counted as.
func judge(s *sighting) verdict {
	f := s.read()
	v := verdict{reason: f.reason, count: s.wire(f)}
	if f.reason == "" {
		v.key = f.key
	}
	return v
}

func (s *sighting) read() found {
	if s.layer3 {
		if s.protocol == 0x8847 || s.protocol == 0x8848 {
			return found{reason: "encapsulated"}
		}
		return s.readVersion(s.data)
	}
	return s.readEthernet(s.data)
}

// readVersion reads what has no EtherType: only its version says what it is.
func (s *sighting) readVersion(b []byte) found {
	switch {
	case len(b) > 0 && b[0]>>4 == 4:
		return s.readIPv4(b)
	case len(b) > 0 && b[0]>>4 == 6:
		return s.readIPv6(b)
	}
	return found{reason: "not_ip"}
}

// readEthernet reads a frame of IEEE 802.3 with the tags of 802.1Q.
func (s *sighting) readEthernet(b []byte) found {
	const destination, source = 6, 6
	if len(b) < destination+source+2 {
		return found{reason: "truncated"}
	}
	etherType, rest := binary.BigEndian.Uint16(b[12:]), b[14:]
	for tags := 0; etherType == 0x8100 || etherType == 0x88a8; tags++ {
		if tags == 2 {
			return found{reason: "encapsulated"}
		}
		if len(rest) < 4 {
			return found{reason: "truncated"}
		}
		etherType, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	switch etherType {
	case 0x0800:
		return s.readIPv4(rest)
	case 0x86dd:
		return s.readIPv6(rest)
	case 0x8847, 0x8848, 0x8864: // MPLS (RFC 5332), PPPoE session (RFC 2516)
		return found{reason: "encapsulated"}
	}
	return found{reason: "not_ip"}
}

// readIPv4 is RFC 791, 3.1.
func (s *sighting) readIPv4(b []byte) found {
	if len(b) < 20 {
		return found{reason: "truncated"}
	}
	version, headerLen := b[0]>>4, int(b[0]&15)*4
	totalLen := int(binary.BigEndian.Uint16(b[2:]))
	if totalLen == 0 && s.gsoSize > 0 {
		totalLen = len(b) // BIG TCP
	}
	if version != 4 || headerLen < 20 || totalLen < headerLen {
		return found{reason: "malformed"}
	}
	packet := b[:min(totalLen, len(b))]
	if len(packet) < headerLen {
		return found{reason: "truncated"}
	}
	var key flow.Key
	copy(key.Source[:], []byte{10: 0xff, 11: 0xff, 12: b[12], b[13], b[14], b[15]})
	copy(key.Destination[:], []byte{10: 0xff, 11: 0xff, 12: b[16], b[17], b[18], b[19]})
	fragmentOffset := binary.BigEndian.Uint16(b[6:]) & 0x1fff
	next := header{protocol: b[9], packet: packet[headerLen:], all: b[headerLen:]}
	if fragmentOffset > 0 {
		key.Protocol = next.protocol
		return found{key: key, transport: next.all}
	}
	return next.follow(key, map[uint8]func(header) (header, bool, bool){51: header.skipAH})
}

// readIPv6 is RFC 8200, 3.
func (s *sighting) readIPv6(b []byte) found {
	if len(b) < 40 {
		return found{reason: "truncated"}
	}
	if b[0]>>4 != 6 {
		return found{reason: "malformed"}
	}
	payloadLen, nextHeader := int(binary.BigEndian.Uint16(b[4:])), b[6]
	packet := b[40:]
	jumbo := payloadLen == 0 && (nextHeader == 0 || s.gsoSize > 0)
	if !jumbo {
		packet = packet[:min(payloadLen, len(packet))]
	}
	var key flow.Key
	copy(key.Source[:], b[8:24])
	copy(key.Destination[:], b[24:40])
	return header{protocol: nextHeader, packet: packet, all: b[40:]}.follow(key, map[uint8]func(header) (header, bool, bool){
		0:  header.skipOptions,  // Hop-by-Hop
		43: header.skipOptions,  // Routing
		60: header.skipOptions,  // Destination
		44: header.skipFragment, // Fragment
		51: header.skipAH,
	})
}

// header is one of those behind the IP header.
type header struct {
	protocol uint8
	packet   []byte // from it to the end of the IP packet
	all      []byte // from it to the end of the frame
}

// The skip functions return what follows a header, whether that is a later fragment's
// data, and whether the header is all there.

func (h header) skip(n int) (next header, later, whole bool) {
	if n > len(h.packet) {
		return header{}, false, false
	}
	return header{protocol: h.packet[0], packet: h.packet[n:], all: h.all[n:]}, false, true
}

func (h header) skipOptions() (next header, later, whole bool) {
	if len(h.packet) < 4 {
		return header{}, false, false
	}
	return h.skip(8 + 8*int(h.packet[1]))
}

// skipAH is RFC 4302, 2.2: the length is in units of 4 bytes, minus 2.
func (h header) skipAH() (next header, later, whole bool) {
	if len(h.packet) < 4 {
		return header{}, false, false
	}
	return h.skip(4 * (int(h.packet[1]) + 2))
}

// skipFragment is RFC 8200, 4.5.
func (h header) skipFragment() (next header, later, whole bool) {
	next, _, whole = h.skip(8)
	return next, whole && binary.BigEndian.Uint16(h.packet[2:])>>3 > 0, whole
}

// follow goes from header to header until one is none of those to be skipped.
func (h header) follow(key flow.Key, skip map[uint8]func(header) (header, bool, bool)) found {
	const most = 8
	for skipped := 0; skip[h.protocol] != nil; skipped++ {
		if skipped == most {
			return found{reason: "extensions"}
		}
		next, later, whole := skip[h.protocol](h)
		if !whole {
			return found{reason: "truncated"}
		}
		h = next
		if later {
			key.Protocol = h.protocol
			return found{key: key, transport: h.all}
		}
	}
	key.Protocol = h.protocol
	switch h.protocol {
	case 6, 17, 33, 132, 136: // TCP, UDP, DCCP, SCTP, UDP-Lite
		if len(h.packet) < 4 {
			return found{reason: "truncated"}
		}
		key.SourcePort = binary.BigEndian.Uint16(h.packet)
		key.DestinationPort = binary.BigEndian.Uint16(h.packet[2:])
	case 1, 58: // ICMP, ICMPv6
		if len(h.packet) < 4 {
			return found{reason: "truncated"}
		}
		key.SourcePort, key.DestinationPort = uint16(h.packet[0]), uint16(h.packet[1])
	}
	return found{key: key, transport: h.all}
}

// wire cuts the packet into segments, each with the headers, and adds them up.
func (s *sighting) wire(f found) epoch.Count {
	tag := 0
	if s.tagged {
		tag = 4
	}
	one := epoch.Count{Packets: 1, Bytes: uint64(len(s.data) + tag)}
	if s.gsoSize == 0 {
		return one
	}
	data, known := s.segmented(f)
	if !known {
		data = s.data
	}
	segments := s.gsoSegs
	if segments == 0 {
		segments = (len(data) + s.gsoSize - 1) / s.gsoSize
	}
	if segments <= 1 {
		return one
	}
	if !known {
		bytes := len(s.data)
		if s.direction == flow.Egress {
			bytes = max(bytes, s.wireLen)
		}
		return epoch.Count{Packets: uint64(segments), Bytes: uint64(bytes + segments*tag)}
	}
	headers := len(s.data) - len(data)
	var sum epoch.Count
	for range segments {
		sum.Add(epoch.Count{Packets: 1, Bytes: uint64(tag + headers)})
	}
	sum.Bytes += uint64(len(data))
	return sum
}

// segmented returns the part of a GSO packet that is cut: the data of the innermost
// transport header known, behind one tunnel at most.
func (s *sighting) segmented(f found) (data []byte, known bool) {
	if f.reason != "" {
		return nil, false
	}
	if inner, ok := s.readTunnel(f); ok && inner.reason == "" {
		if data, known := inner.payload(); known {
			return data, true
		}
	}
	return f.payload()
}

// payload is the data behind a transport header that GSO may cut.
func (f *found) payload() (data []byte, known bool) {
	length := 0
	switch f.key.Protocol {
	case 6:
		if len(f.transport) < 13 {
			return nil, false
		}
		length = int(f.transport[12]>>4) * 4
	case 17:
		length = 8
	case 132:
		length = 12
	default:
		return nil, false
	}
	if length > len(f.transport) {
		return nil, false
	}
	return f.transport[length:], true
}

// readTunnel reads the packet inside one of a tunnel.
func (s *sighting) readTunnel(f found) (inner found, ok bool) {
	b := f.transport
	switch f.key.Protocol {
	case 4, 41: // IP in IP
		return s.readVersion(b), true
	case 47: // GRE
		if len(b) < 4 || b[1]&7 != 0 {
			return found{}, false
		}
		length := 4
		for _, optional := range []byte{0x80, 0x20, 0x10} { // checksum, key, sequence number
			if b[0]&optional != 0 {
				length += 4
			}
		}
		if len(b) < length {
			return found{}, false
		}
		if binary.BigEndian.Uint16(b[2:]) == 0x6558 {
			return s.readEthernet(b[length:]), true
		}
		return s.readVersion(b[length:]), true
	case 17:
		length := 0
		switch {
		case f.key.DestinationPort == 4789: // VXLAN
			length = 8 + 8
		case f.key.DestinationPort == 6081 && len(b) > 8: // Geneve
			length = 8 + 8 + 4*int(b[8]&0x3f)
		}
		if length == 0 || len(b) < length {
			return found{}, false
		}
		return s.readEthernet(b[length:]), true
	}
	return found{}, false
}
