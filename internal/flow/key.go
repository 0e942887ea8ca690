// Package flow names what TMA counts: the 5-tuple of a flow, the direction in
// which a device saw it, and the two dimensions along which it is summed.
package flow

import (
	"encoding/binary"
	"net/netip"
)

// KeyLen is the length in bytes of a Key's canonical encoding.
const KeyLen = 40

// Key is a 5-tuple. Addresses are 16 bytes in network order, IPv4 as
// IPv4-mapped IPv6 (RFC 4291, 2.5.5.2). Ports are host order; for ICMP and
// ICMPv6 SourcePort is the type and DestinationPort the code, and for
// protocols without ports, as for later fragments, both are 0.
type Key struct {
	Source, Destination         [16]byte
	SourcePort, DestinationPort uint16
	Protocol                    uint8
}

// Canonical writes the key's one encoding, which every host hashes alike:
// source, destination, ports in network order, protocol, three zero bytes.
func (k *Key) Canonical(to *[KeyLen]byte) {
	copy(to[0:16], k.Source[:])
	copy(to[16:32], k.Destination[:])
	binary.BigEndian.PutUint16(to[32:34], k.SourcePort)
	binary.BigEndian.PutUint16(to[34:36], k.DestinationPort)
	to[36], to[37], to[38], to[39] = k.Protocol, 0, 0, 0
}

// SourceAddr returns the source address, IPv4 unmapped.
func (k *Key) SourceAddr() netip.Addr { return netip.AddrFrom16(k.Source).Unmap() }

// DestinationAddr returns the destination address, IPv4 unmapped.
func (k *Key) DestinationAddr() netip.Addr { return netip.AddrFrom16(k.Destination).Unmap() }

// Addr returns the key's address in one dimension, IPv4 unmapped.
func (k *Key) Addr(d Dimension) netip.Addr {
	if d == Source {
		return k.SourceAddr()
	}
	return k.DestinationAddr()
}
