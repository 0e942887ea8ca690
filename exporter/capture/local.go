package capture

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// localNetworks returns what the last sync found; the caller owns it.
func (d *devices) localNetworks() []netip.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.networks)
}

func (d *devices) setNetworks(networks []netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.networks = networks
}

// localNetworks lists what the host answers for: what the kernel delivers to the
// host itself, but the loopback addresses, which every host has, and the networks
// of the containers and virtual machines behind its interfaces.
func localNetworks(links []netlink.Link) ([]netip.Prefix, error) {
	local, err := routes(netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	if err != nil {
		return nil, fmt.Errorf("list the local addresses: %w", err)
	}
	networks := destinations(local)
	inner := innerDevices(links)
	if len(inner) == 0 {
		return networks, nil
	}
	forward, err := routes(netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list the routes: %w", err)
	}
	return append(networks, destinations(innerRoutes(forward, inner))...), nil
}

func routes(filter netlink.Route, mask uint64) ([]netlink.Route, error) {
	return list(func() ([]netlink.Route, error) { return netlink.RouteListFiltered(netlink.FAMILY_ALL, &filter, mask) })
}

// destinations are the networks that routes lead to.
func destinations(routes []netlink.Route) []netip.Prefix {
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

// inner is how far a device's routes lead to the host's own.
type inner uint8

const (
	innerHosts    inner = iota + 1 // single addresses
	innerNetworks                  // networks, too
)

// innerDevices are the devices, by index, behind which there may be containers or
// virtual machines: bridges none of whose ports leads out of the host, and pairs
// and taps without a bridge. The host's own uplink may be a pair, too, if the host
// is itself a container; so a pair counts for single addresses only, which is how
// container networks without a bridge route.
func innerDevices(links []netlink.Link) map[int]inner {
	all := map[int]inner{}
	for _, l := range links {
		switch l.Type() {
		case "bridge":
			all[l.Attrs().Index] = innerNetworks
		case "veth", "netkit", "tuntap":
			if l.Attrs().MasterIndex == 0 && l.Attrs().EncapType == encapEthernet {
				all[l.Attrs().Index] = innerHosts
			}
		}
	}
	for _, l := range links {
		switch l.Type() {
		case "veth", "netkit", "tuntap":
		default:
			delete(all, l.Attrs().MasterIndex)
		}
	}
	return all
}

// innerRoutes are the routes that end behind inner devices. A device that leads to
// a gateway is an uplink.
func innerRoutes(all []netlink.Route, devices map[int]inner) []netlink.Route {
	for _, route := range all {
		if route.Gw != nil || route.Via != nil {
			delete(devices, route.LinkIndex)
		}
		for _, hop := range route.MultiPath {
			delete(devices, hop.LinkIndex)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(r netlink.Route) bool {
		if r.Dst == nil || r.Type != unix.RTN_UNICAST || r.Dst.IP.IsLinkLocalUnicast() {
			return true
		}
		ones, bits := r.Dst.Mask.Size()
		least := innerNetworks
		if ones == bits {
			least = innerHosts
		}
		return devices[r.LinkIndex] < least
	})
}
