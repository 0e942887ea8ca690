package traffic

import (
	"encoding/binary"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// sum adds bytes, of which there must be an even number, to an Internet
// checksum (RFC 1071) that is not folded yet.
func sum(initial uint64, b []byte) uint64 {
	for ; len(b) >= 2; b = b[2:] {
		initial += uint64(binary.BigEndian.Uint16(b))
	}
	return initial
}

// fold makes 16 bits of a sum by adding the carries.
func fold(s uint64) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// wrongChecksum is a checksum that no receiver accepts for the transport
// header, whose own checksum field must be 0, with that many zero bytes of
// data: the right one plus one. 0 is skipped: in UDP over IPv4 it says that
// there is no checksum, and the packet would be accepted.
func wrongChecksum(k *flow.Key, header []byte, data int) uint16 {
	// Of an IPv4 address only the last 4 bytes are in the pseudo-header.
	from := 0
	if !isIPv6(k) {
		from = 12
	}
	s := sum(0, k.Source[from:])
	s = sum(s, k.Destination[from:])
	s += uint64(k.Protocol) + uint64(len(header)+data)
	right := ^fold(sum(s, header))
	if right == 0xffff {
		return 1
	}
	return right + 1
}
