package store

import (
	"net/netip"
	"slices"
)

// claims says which exporters' hosts own an address, by the networks that they
// report as local. Several hosts may claim the same one, such as a container
// network that each of them has.
type claims struct {
	addresses map[netip.Addr][]*exporter
	networks  []claim // longest prefix first
}

type claim struct {
	prefix    netip.Prefix
	claimants []*exporter
}

// newClaims collects the networks of all exporters.
func newClaims(exporters []*exporter) *claims {
	c := &claims{addresses: make(map[netip.Addr][]*exporter)}
	networks := make(map[netip.Prefix][]*exporter)
	for _, x := range exporters {
		for _, network := range x.networks {
			switch {
			case !identifies(network):
			case network.IsSingleIP():
				c.addresses[network.Addr()] = append(c.addresses[network.Addr()], x)
			default:
				networks[network.Masked()] = append(networks[network.Masked()], x)
			}
		}
	}
	for prefix, claimants := range networks {
		c.networks = append(c.networks, claim{prefix, claimants})
	}
	slices.SortFunc(c.networks, func(a, b claim) int { return b.prefix.Bits() - a.prefix.Bits() })
	return c
}

// identifies says that addresses in a network tell one host from another.
// Loopback and unspecified addresses are on every host, multicast ones on none;
// link-local ones are taken, as interfaces have different ones.
func identifies(network netip.Prefix) bool {
	addr := network.Addr()
	return network.Bits() > 0 && !addr.IsLoopback() && !addr.IsUnspecified() && !addr.IsMulticast()
}

// owner looks for the hosts that own an address and cover the second that is
// being resolved, by the longest claim that has such a host. claimed says that
// there is one, mine that x is one of them.
func (c *claims) owner(addr netip.Addr, x *exporter, covering []bool) (claimed, mine bool) {
	if claimed, mine = among(c.addresses[addr], x, covering); claimed {
		return claimed, mine
	}
	for i := range c.networks {
		if !c.networks[i].prefix.Contains(addr) {
			continue
		}
		if claimed, mine = among(c.networks[i].claimants, x, covering); claimed {
			return claimed, mine
		}
	}
	return false, false
}

func among(claimants []*exporter, x *exporter, covering []bool) (claimed, mine bool) {
	for _, claimant := range claimants {
		if covering[claimant.id] {
			claimed = true
			mine = mine || claimant == x
		}
	}
	return claimed, mine
}
