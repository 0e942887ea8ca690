package traffic

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Whatever the right checksum is, the wrong one is neither equal to it in
// one's complement, where 0 and 0xffff are the same, nor 0.
func TestChecksumIsAlwaysWrong(t *testing.T) {
	key := flow.Key{
		Source: netip.MustParseAddr("172.25.10.3").As16(), Destination: netip.MustParseAddr("172.25.20.3").As16(),
		Protocol: flow.ProtocolUDP,
	}
	header := make([]byte, udpLen)
	for port := range 1 << 16 {
		binary.BigEndian.PutUint16(header, uint16(port))
		wrong := wrongChecksum(&key, header, 0)
		total := sum(sum(uint64(wrong), key.Source[12:]), key.Destination[12:])
		total = sum(total+flow.ProtocolUDP+udpLen, header)
		if fold(total) == 0xffff || wrong == 0 {
			t.Fatalf("source port %d: a receiver accepts checksum %#04x", port, wrong)
		}
	}
}
