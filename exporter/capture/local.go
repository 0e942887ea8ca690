package capture

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// localNetworks returns what localRoutes listed last; the caller owns it.
func (d *devices) localNetworks() []netip.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.networks)
}

// localRoutes lists what the kernel delivers to the host itself: its addresses,
// and networks that were made local as a whole.
func localRoutes() ([]netlink.Route, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL}
	return netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
}

// localNetworks are the routes' destinations but the loopback ones, which every
// host has.
func localNetworks(routes []netlink.Route) []netip.Prefix {
	var networks []netip.Prefix
	for _, route := range routes {
		if route.Dst == nil {
			continue
		}
		address, ok := netip.AddrFromSlice(route.Dst.IP)
		bits, _ := route.Dst.Mask.Size()
		if address = address.Unmap(); ok && !address.IsLoopback() {
			networks = append(networks, netip.PrefixFrom(address, bits))
		}
	}
	return networks
}
