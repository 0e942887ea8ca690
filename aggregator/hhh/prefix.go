package hhh

import (
	"cmp"
	"encoding/binary"
	"net/netip"
)

// Family says to which address family a Prefix belongs.
type Family uint8

// The families. Any is that of the root alone, which holds both others.
const (
	Any Family = iota
	IPv4
	IPv6
)

// Prefix is a network prefix as sums are kept by it: 24 bytes, comparable,
// without pointers. The zero value is the root of the hierarchy, "all".
type Prefix struct {
	hi, lo uint64 // the address from the top bit of hi on; IPv4 fills 32 bits
	family Family
	length uint8
}

// AddrPrefix returns the full-length prefix of an address in 16 bytes, IPv4 as
// IPv4-mapped IPv6.
func AddrPrefix(addr [16]byte) Prefix {
	p := Prefix{hi: binary.BigEndian.Uint64(addr[:8]), lo: binary.BigEndian.Uint64(addr[8:]), family: IPv6, length: 128}
	if p.hi == 0 && p.lo>>32 == 0xffff {
		return Prefix{hi: p.lo << 32, family: IPv4, length: 32}
	}
	return p
}

// FromNetip converts a valid prefix; bits beyond its length are cleared, and
// IPv4-mapped prefixes become IPv4.
func FromNetip(p netip.Prefix) Prefix {
	p = p.Masked()
	length := p.Bits()
	if p.Addr().Is4In6() {
		length -= 96
	}
	return AddrPrefix(p.Addr().As16()).Truncate(length)
}

// Netip converts back. The root has no such form and gives the zero value.
func (p Prefix) Netip() netip.Prefix {
	switch p.family {
	case IPv4:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(p.hi>>32))
		return netip.PrefixFrom(netip.AddrFrom4(b), int(p.length))
	case IPv6:
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], p.hi)
		binary.BigEndian.PutUint64(b[8:], p.lo)
		return netip.PrefixFrom(netip.AddrFrom16(b), int(p.length))
	}
	return netip.Prefix{}
}

// String returns CIDR text, or "all" for the root.
func (p Prefix) String() string {
	if p.family == Any {
		return "all"
	}
	return p.Netip().String()
}

// Family returns the prefix's family.
func (p Prefix) Family() Family { return p.family }

// Length returns the number of bits of the prefix, 0 for the root.
func (p Prefix) Length() int { return int(p.length) }

// IsAddr says that the prefix is one address.
func (p Prefix) IsAddr() bool {
	return p.family == IPv4 && p.length == 32 || p.family == IPv6 && p.length == 128
}

// Truncate returns the ancestor of p of the given length, or p itself where it
// isn't longer.
func (p Prefix) Truncate(length int) Prefix {
	if length >= int(p.length) {
		return p
	}
	hi, lo := mask(length)
	p.hi, p.lo, p.length = p.hi&hi, p.lo&lo, uint8(length)
	return p
}

// Compare orders by family, then by address, then shorter prefixes first: an
// ancestor comes before all that is below it.
func (p Prefix) Compare(q Prefix) int {
	if c := cmp.Compare(p.family, q.family); c != 0 {
		return c
	}
	if c := cmp.Compare(p.hi, q.hi); c != 0 {
		return c
	}
	if c := cmp.Compare(p.lo, q.lo); c != 0 {
		return c
	}
	return cmp.Compare(p.length, q.length)
}

// mask returns the 128-bit mask of a prefix length. Shifts by 64 and more give
// zero in Go, which is what both halves need.
func mask(length int) (hi, lo uint64) {
	if length > 64 {
		return ^uint64(0), ^(^uint64(0) >> (length - 64))
	}
	return ^(^uint64(0) >> length), 0
}
