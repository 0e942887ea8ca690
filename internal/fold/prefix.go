package fold

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// ipv4Bits is how many bits precede an IPv4 address that is mapped to IPv6.
const ipv4Bits = 96

// prefix is an address, or its first bits with the others cleared, as two words
// whose order is that of the addresses. IPv4 is mapped to IPv6.
type prefix struct{ high, low uint64 }

func prefixOf(address *[16]byte) prefix {
	return prefix{binary.BigEndian.Uint64(address[:8]), binary.BigEndian.Uint64(address[8:])}
}

// masked returns the first n bits.
func (p prefix) masked(n int) prefix {
	return p.and(prefix{ones(n), ones(n - 64)})
}

// and returns the bits that both have.
func (p prefix) and(mask prefix) prefix { return prefix{p.high & mask.high, p.low & mask.low} }

// ones is a word whose first n bits are set; n may be out of range.
func ones(n int) uint64 { return ^(^uint64(0) >> max(n, 0)) }

func (p prefix) less(o prefix) bool {
	// The borrow of the 128-bit difference: this has no branch to predict.
	_, borrow := bits.Sub64(p.low, o.low, 0)
	_, borrow = bits.Sub64(p.high, o.high, borrow)
	return borrow != 0
}

// netip returns the first n bits as a prefix of the address's own family.
func (p prefix) netip(n int) netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], p.high)
	binary.BigEndian.PutUint64(b[8:], p.low)
	address := netip.AddrFrom16(b)
	if address.Is4In6() && n >= ipv4Bits {
		return netip.PrefixFrom(address.Unmap(), n-ipv4Bits)
	}
	return netip.PrefixFrom(address, n)
}

// from returns the bits from one on, counted from the last, that are in its word.
func (p prefix) from(bit uint) uint64 {
	if bit >= 64 {
		return p.high >> (bit & 63)
	}
	return p.low >> (bit & 63)
}

// isIPv4 says whether the address is an IPv4-mapped one.
func (p prefix) isIPv4() bool { return p.high == 0 && p.low>>32 == 0xffff }

// prefixCount is what was counted under a prefix.
type prefixCount struct {
	prefix
	epoch.Count
}

// appendSum appends to a list of ascending prefixes; the same prefix again adds.
func appendSum(to []prefixCount, p prefix, c epoch.Count) []prefixCount {
	n := len(to)
	if n > 0 && to[n-1].prefix == p {
		to[n-1].Count.Add(c)
		return to
	}
	if n == cap(to) {
		return append(to, prefixCount{p, c})
	}
	// Field by field: what append copies as a whole was written in parts just
	// before, for which the CPU waits.
	to = to[:n+1]
	e := &to[n]
	e.high, e.low, e.Packets, e.Bytes = p.high, p.low, c.Packets, c.Bytes
	return to
}

// mergeSum appends the union of two lists of ascending prefixes.
func mergeSum(to, a, b []prefixCount) []prefixCount {
	for len(a) > 0 && len(b) > 0 {
		if b[0].less(a[0].prefix) {
			to, b = appendSum(to, b[0].prefix, b[0].Count), b[1:]
		} else {
			to, a = appendSum(to, a[0].prefix, a[0].Count), a[1:]
		}
	}
	for i := range a {
		to = appendSum(to, a[i].prefix, a[i].Count)
	}
	for i := range b {
		to = appendSum(to, b[i].prefix, b[i].Count)
	}
	return to
}
