package traffic

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// addressSet draws addresses of one family from prefixes, every prefix being
// as likely as every other.
type addressSet []netip.Prefix

// family returns the prefixes of one family.
func family(prefixes []netip.Prefix, ipv6 bool) addressSet {
	var set addressSet
	for _, p := range prefixes {
		if p.Addr().Is6() == ipv6 {
			set = append(set, p.Masked())
		}
	}
	return set
}

func (s addressSet) draw(random *rand.Rand) netip.Addr {
	p := s[random.IntN(len(s))]
	bytes := p.Addr().AsSlice()
	for i := range bytes {
		// The bits of this byte that the prefix leaves open.
		open := byte(0xff >> min(8, max(0, p.Bits()-8*i)))
		if open != 0 {
			bytes[i] |= byte(random.Uint32()) & open
		}
	}
	address, _ := netip.AddrFromSlice(bytes)
	return address
}

// ParseAddresses reads an address, or a prefix in CIDR notation.
func ParseAddresses(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix in CIDR notation", text)
	}
	return prefix, nil
}
