package store

import (
	"encoding/binary"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// keyCoder writes and reads the keys of flows one behind another: a byte that says
// how many bytes a key shares with the one before, and whether it is IPv6, and then
// the others. Keys of IPv4 flows are 13 bytes, others 37.
type keyCoder struct {
	buffer [maxKey]byte
	length int
}

const (
	maxKey, ipv4Key = 16 + 16 + 2 + 2 + 1, 4 + 4 + 2 + 2 + 1
	keyIsIPv6       = 0x80
)

// mapped is what precedes an IPv4 address in 16 bytes.
var mapped = [12]byte{10: 0xff, 11: 0xff}

// plain writes a key without its predecessor and returns its length.
func plain(to *[maxKey]byte, k *flow.Key) int {
	n := 0
	if [12]byte(k.Source[:12]) == mapped && [12]byte(k.Destination[:12]) == mapped {
		n += copy(to[n:], k.Source[12:])
		n += copy(to[n:], k.Destination[12:])
	} else {
		n += copy(to[n:], k.Source[:])
		n += copy(to[n:], k.Destination[:])
	}
	binary.BigEndian.PutUint16(to[n:], k.SourcePort)
	binary.BigEndian.PutUint16(to[n+2:], k.DestinationPort)
	to[n+4] = k.Protocol
	return n + 5
}

// append writes the next key.
func (c *keyCoder) append(b []byte, k *flow.Key) []byte {
	var next [maxKey]byte
	n, shared := plain(&next, k), 0
	if n == c.length {
		for shared < n-1 && next[shared] == c.buffer[shared] {
			shared++
		}
	}
	c.buffer, c.length = next, n
	tag := byte(shared)
	if n == maxKey {
		tag |= keyIsIPv6
	}
	return append(append(b, tag), next[shared:n]...)
}

// next reads the next key and returns what is behind it.
func (c *keyCoder) next(b []byte, k *flow.Key) []byte {
	shared := int(b[0] &^ keyIsIPv6)
	c.length = ipv4Key
	if b[0]&keyIsIPv6 != 0 {
		c.length = maxKey
	}
	n := 1 + copy(c.buffer[shared:c.length], b[1:])
	at := 0
	if c.length == ipv4Key {
		copy(k.Source[:], mapped[:])
		copy(k.Destination[:], mapped[:])
		at += copy(k.Source[12:], c.buffer[at:])
		at += copy(k.Destination[12:], c.buffer[at:])
	} else {
		at += copy(k.Source[:], c.buffer[at:])
		at += copy(k.Destination[:], c.buffer[at:])
	}
	k.SourcePort = binary.BigEndian.Uint16(c.buffer[at:])
	k.DestinationPort = binary.BigEndian.Uint16(c.buffer[at+2:])
	k.Protocol = c.buffer[at+4]
	return b[n:]
}

// uvarint takes a number from the front of b.
func uvarint(b *[]byte) uint64 {
	v, n := binary.Uvarint(*b)
	*b = (*b)[n:]
	return v
}
