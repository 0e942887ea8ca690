package store

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// claims says which exporters' hosts own an address, by the networks that they
// report as local. Several hosts may claim the same one, such as a container
// network that each of them has.
type claims struct {
	addresses map[netip.Addr][]claimant
	networks  *bart.Table[[]claimant] // the addresses among them
}

// claimant is an exporter that had a network in some of its runs.
type claimant struct {
	*exporter
	network netip.Prefix
	always  bool // in all of them
}

// coverage says how much of what the host saw with the network in a span is there.
func (c *claimant) coverage(s span) coverage {
	if c.always {
		return c.exporter.coverage(s)
	}
	return c.coverageWhere(s, func(r *run) bool { return r.has(c.network) })
}

// newClaims collects the networks of all exporters.
func newClaims(exporters []*exporter) *claims {
	c := &claims{addresses: make(map[netip.Addr][]claimant), networks: new(bart.Table[[]claimant])}
	for _, x := range exporters {
		for network, runs := range x.networksOfRuns() {
			if identifies(network) {
				c.add(claimant{x, network, runs == len(x.runs)})
			}
		}
	}
	return c
}

// networksOfRuns returns every network that the host had, and in how many runs.
func (x *exporter) networksOfRuns() map[netip.Prefix]int {
	runs := make(map[netip.Prefix]int)
	for i := range x.runs {
		for _, network := range x.runs[i].networks {
			runs[network]++
		}
	}
	return runs
}

func (c *claims) add(by claimant) {
	network := by.network.Masked()
	claimants, _ := c.networks.Get(network)
	claimants = append(claimants, by)
	c.networks.Insert(network, claimants)
	if network.IsSingleIP() {
		c.addresses[network.Addr()] = claimants
	}
}

// identifies says that addresses in a network tell one host from another.
// Loopback and unspecified addresses are on every host, multicast ones on none;
// link-local ones are taken, as interfaces have different ones.
func identifies(network netip.Prefix) bool {
	addr := network.Addr()
	return network.Bits() > 0 && !addr.IsLoopback() && !addr.IsUnspecified() && !addr.IsMulticast()
}

// ruling says who counts what x saw of a flow in a span of time, by the hosts that
// own its ends.
type ruling struct {
	settled bool // hosts that own an end of the flow cover the whole span
	mine    bool // x's is one of them
	// Hosts whose claims go before that, and which cover a part of the span: they
	// have counted that part.
	owners []*exporter
}

// rule looks for the hosts that own an address, by the longest claim of one that
// covers the span.
func (c *claims) rule(to *ruling, address netip.Addr, x *exporter, s span) {
	if to.among(c.addresses[address], x, s); to.settled {
		return
	}
	for network, claimants := range c.networks.Supernets(netip.PrefixFrom(address, address.BitLen())) {
		if network.IsSingleIP() {
			continue
		}
		if to.among(claimants, x, s); to.settled {
			return
		}
	}
}

// among settles the ruling if one of the claimants covers the span. What x saw
// itself it covers.
func (r *ruling) among(claimants []claimant, x *exporter, s span) {
	owners := len(r.owners)
	for i := range claimants {
		claimant := &claimants[i]
		if claimant.exporter == x && claimant.coverage(s) != none {
			r.settled, r.mine = true, true
			r.owners = r.owners[:owners] // each has its own of the address
			return
		}
		switch claimant.coverage(s) {
		case wholly:
			r.settled = true
		case partly:
			r.owners = append(r.owners, claimant.exporter)
		}
	}
}

// claim is what is known of who owns the addresses of a prefix.
type claim uint8

const (
	nobodys claim = iota // no host that covers any of the span
	unclear
	anothers // one that covers the whole span
)

// of says who owns a prefix that isn't x's own.
func (c *claims) of(prefix netip.Prefix, x *exporter, s span) claim {
	known := nobodys
	for _, claimants := range c.networks.Supernets(prefix) {
		switch strongest(claimants, x, s) {
		case wholly:
			return anothers
		case partly:
			known = unclear
		}
	}
	for _, claimants := range c.networks.Subnets(prefix) {
		if strongest(claimants, x, s) != none {
			return unclear
		}
	}
	return known
}

// strongest is the best coverage that a claimant other than x has.
func strongest(claimants []claimant, x *exporter, s span) (best coverage) {
	for i := range claimants {
		if claimants[i].exporter != x {
			best = max(best, claimants[i].coverage(s))
		}
	}
	return best
}
