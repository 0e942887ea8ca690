package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// buildHost configures the devices that its zones gave the host. It runs in
// the host's namespace.
func (n *Network) buildHost(h Host) error {
	if err := buildLoopback(h); err != nil {
		return err
	}
	for number := range h.Interfaces {
		if err := n.buildDevice(h, number); err != nil {
			return fmt.Errorf("%s: %w", deviceName(number), err)
		}
	}
	if len(h.Interfaces) > 1 {
		if err := setSysctls(forwardingSysctls); err != nil {
			return err
		}
	}
	return n.addRoutes(h)
}

var forwardingSysctls = map[string]string{
	"net/ipv4/ip_forward":          "1",
	"net/ipv6/conf/all/forwarding": "1",
}

// buildLoopback puts the host's extra addresses and routed prefixes on lo:
// they are its own without any neighbour asking for them.
func buildLoopback(h Host) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	for _, r := range h.Extra {
		for _, a := range r.Addresses() {
			if err := addAddress(lo, netip.PrefixFrom(a, a.BitLen())); err != nil {
				return err
			}
		}
	}
	for _, p := range h.Routed {
		route := &netlink.Route{
			LinkIndex: lo.Attrs().Index, Dst: ipNet(p), Type: unix.RTN_LOCAL,
			Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
		}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("make %v local: %w", p, err)
		}
	}
	return nil
}

func (n *Network) buildDevice(h Host, number int) error {
	i := h.Interfaces[number]
	zone, _ := n.configuration.zone(i.Zone)
	link, err := netlink.LinkByName(deviceName(number))
	if err != nil {
		return err
	}
	if err := offloadsOff(deviceName(number)); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring it up: %w", err)
	}
	if err := addAddress(link, netip.PrefixFrom(i.IPv4, zone.IPv4.Bits())); err != nil {
		return err
	}
	if err := addAddress(link, netip.PrefixFrom(i.IPv6, zone.IPv6.Bits())); err != nil {
		return err
	}
	return n.addNeighbours(link, h, zone)
}

// addNeighbours enters every other host of the zone for good, so that nobody
// ever asks for an address.
func (n *Network) addNeighbours(link netlink.Link, h Host, z Zone) error {
	for _, other := range n.configuration.Hosts {
		i := other.in(z.Name)
		if i == nil || other.Name == h.Name {
			continue
		}
		for _, a := range []netip.Addr{i.IPv4, i.IPv6} {
			neighbour := &netlink.Neigh{
				LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT,
				IP: a.AsSlice(), HardwareAddr: hardwareAddr(hostDevice, i.IPv4),
			}
			if err := netlink.NeighSet(neighbour); err != nil {
				return fmt.Errorf("add neighbour %v: %w", a, err)
			}
		}
	}
	return nil
}

// addRoutes adds the routes to the other hosts' extra and routed prefixes in
// the zones that the host is in and, unless it is in all, the default routes.
func (n *Network) addRoutes(h Host) error {
	for _, other := range n.configuration.Hosts {
		if other.Name == h.Name {
			continue
		}
		if i := other.nearest(h); i != nil {
			if err := addRoutesVia(*i, other.routedHere()); err != nil {
				return err
			}
		}
	}
	if len(h.Interfaces) > 1 {
		return nil
	}
	zone, _ := n.configuration.zone(h.Interfaces[0].Zone)
	gateway, _ := n.configuration.host(zone.Gateway)
	if gateway.Name == h.Name {
		return nil
	}
	return addRoutesVia(*gateway.in(zone.Name), []netip.Prefix{
		netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	})
}

// nearest returns the host's first interface in a zone that the other is in
// too, nil if they share none.
func (h Host) nearest(other Host) *Interface {
	for _, i := range h.Interfaces {
		if other.in(i.Zone) != nil {
			return &i
		}
	}
	return nil
}

func addRoutesVia(gateway Interface, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		via := gateway.IPv4
		if p.Addr().Is6() {
			via = gateway.IPv6
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(p), Gw: via.AsSlice()}); err != nil {
			return fmt.Errorf("add route to %v via %v: %w", p, via, err)
		}
	}
	return nil
}

func addAddress(link netlink.Link, p netip.Prefix) error {
	address := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		address.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("add address %v: %w", p, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
