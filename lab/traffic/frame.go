package traffic

import (
	"encoding/binary"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Lengths of headers in bytes.
const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	tcpLen      = 20
	udpLen      = 8
	maxHeaders  = ethernetLen + ipv6Len + tcpLen
)

// EtherTypes (IEEE 802 numbers).
const (
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
)

// TCP flags (RFC 9293, 3.1).
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpPSH = 0x08
	tcpACK = 0x10
)

// frame is one packet on its way: its headers, followed on the wire by that
// many zero bytes of data.
type frame struct {
	headers [maxHeaders]byte
	length  int // of the headers
	data    int
	flow    int // index of its flow
}

func (f *frame) wireLength() int { return f.length + f.data }

// isIPv6 says whether the flow's addresses aren't IPv4-mapped.
func isIPv6(k *flow.Key) bool { return !k.SourceAddr().Is4() }

// headersLen is the length of all headers of the flow's packets.
func headersLen(k *flow.Key) int {
	length := ethernetLen + ipv4Len + tcpLen
	if isIPv6(k) {
		length += ipv6Len - ipv4Len
	}
	if k.Protocol == flow.ProtocolUDP {
		length += udpLen - tcpLen
	}
	return length
}

// write makes the packet that the flow sends next, of the wanted length on the
// wire if it carries data, to the given hop.
func (f *frame) write(of *Flow, wanted int, to *hop) {
	f.length = headersLen(&of.Key)
	f.data = 0
	flags := of.nextFlags()
	if carriesData(flags) {
		f.data = max(0, wanted-f.length)
	}
	f.writeEthernet(&of.Key, to)
	transport := f.writeIP(&of.Key)
	if of.Key.Protocol == flow.ProtocolUDP {
		writeUDP(transport, &of.Key, f.data)
	} else {
		writeTCP(transport, &of.Key, flags, of.sequence, f.data)
	}
	of.written++
	of.sequence += sequenceSpace(flags, f.data)
}

// nextFlags are the TCP flags of the flow's next packet; 0 for UDP.
func (of *Flow) nextFlags() byte {
	switch {
	case of.Key.Protocol == flow.ProtocolUDP:
		return 0
	case of.written == 0 || of.behaviour == probe:
		return tcpSYN
	case of.written == of.Planned-1:
		return tcpFIN | tcpACK
	default:
		return tcpPSH | tcpACK
	}
}

func carriesData(flags byte) bool { return flags&(tcpSYN|tcpFIN) == 0 }

// sequenceSpace is what a segment takes of TCP's sequence numbers: its data,
// and one for SYN and FIN.
func sequenceSpace(flags byte, data int) uint32 {
	if !carriesData(flags) {
		return 1
	}
	return uint32(data)
}

func (f *frame) writeEthernet(k *flow.Key, to *hop) {
	copy(f.headers[0:6], to.destination[:])
	copy(f.headers[6:12], to.source[:])
	binary.BigEndian.PutUint16(f.headers[12:14], etherType(k))
}

func etherType(k *flow.Key) uint16 {
	if isIPv6(k) {
		return etherTypeIPv6
	}
	return etherTypeIPv4
}

// writeIP writes the network header and returns where the transport header is.
func (f *frame) writeIP(k *flow.Key) (transport []byte) {
	ip := f.headers[ethernetLen:f.length]
	length := f.wireLength() - ethernetLen
	if isIPv6(k) {
		writeIPv6(ip, k, length-ipv6Len)
		return ip[ipv6Len:]
	}
	writeIPv4(ip, k, length)
	return ip[ipv4Len:]
}

const hopLimit = 64

func writeIPv4(b []byte, k *flow.Key, total int) {
	b[0], b[1] = 0x45, 0 // version 4, no options
	binary.BigEndian.PutUint16(b[2:4], uint16(total))
	binary.BigEndian.PutUint32(b[4:8], 0x4000) // don't fragment
	b[8], b[9] = hopLimit, k.Protocol
	b[10], b[11] = 0, 0
	copy(b[12:16], k.Source[12:])
	copy(b[16:20], k.Destination[12:])
	binary.BigEndian.PutUint16(b[10:12], ^fold(sum(0, b[:ipv4Len])))
}

func writeIPv6(b []byte, k *flow.Key, payload int) {
	binary.BigEndian.PutUint32(b[0:4], 6<<28)
	binary.BigEndian.PutUint16(b[4:6], uint16(payload))
	b[6], b[7] = k.Protocol, hopLimit
	copy(b[8:24], k.Source[:])
	copy(b[24:40], k.Destination[:])
}

func writeUDP(b []byte, k *flow.Key, data int) {
	binary.BigEndian.PutUint16(b[0:2], k.SourcePort)
	binary.BigEndian.PutUint16(b[2:4], k.DestinationPort)
	binary.BigEndian.PutUint16(b[4:6], uint16(udpLen+data))
	binary.BigEndian.PutUint16(b[6:8], 0)
	binary.BigEndian.PutUint16(b[6:8], wrongChecksum(k, b[:udpLen], data))
}

func writeTCP(b []byte, k *flow.Key, flags byte, sequence uint32, data int) {
	binary.BigEndian.PutUint16(b[0:2], k.SourcePort)
	binary.BigEndian.PutUint16(b[2:4], k.DestinationPort)
	binary.BigEndian.PutUint32(b[4:8], sequence)
	binary.BigEndian.PutUint32(b[8:12], 0)
	if flags&tcpACK != 0 {
		b[11] = 1
	}
	b[12], b[13] = tcpLen/4<<4, flags
	binary.BigEndian.PutUint16(b[14:16], 0xffff) // window
	binary.BigEndian.PutUint32(b[16:20], 0)      // checksum, urgent pointer
	binary.BigEndian.PutUint16(b[16:18], wrongChecksum(k, b[:tcpLen], data))
}
