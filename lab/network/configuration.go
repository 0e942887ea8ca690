// Package network builds the lab on one machine: zones, each a switch in a
// network namespace of its own, and hosts, each a namespace with one Ethernet
// device (a veth) in every zone that it is in. Nothing is made in the
// namespace of the caller.
//
// The wire is quiet: neighbours, switch tables and routes are all static,
// IPv6 does no duplicate address detection, and there are no router
// solicitations and no link-local addresses, so that what a device counts is
// what was sent on purpose. Offloads are off, so that a packet counts the same
// at every device it crosses.
package network

import (
	"fmt"
	"net/netip"
	"slices"
)

// Zone is a switched Ethernet segment.
type Zone struct {
	Name       string
	IPv4, IPv6 netip.Prefix
	// Gateway names the host through which the zone's hosts reach the others.
	Gateway string
}

// Interface is a host's device in a zone. A host's devices are named eth0,
// eth1 and so on in the order of its interfaces.
type Interface struct {
	Zone       string
	IPv4, IPv6 netip.Addr
}

// Host is a machine of the lab. A host with more than one interface forwards.
type Host struct {
	Name       string
	Interfaces []Interface
	// Extra are further addresses of the host, put on its loopback device,
	// and the prefixes that cover them by which others route to it.
	Extra []Range
	// Routed are prefixes that are local to the host as a whole without being
	// its addresses: traffic from them and to them is the host's.
	Routed []netip.Prefix
}

// Range is a run of consecutive addresses, which starts after the prefix's own.
type Range struct {
	Prefix netip.Prefix
	Count  int
}

// Addresses lists the range's addresses in order.
func (r Range) Addresses() []netip.Addr {
	addresses := make([]netip.Addr, r.Count)
	next := r.Prefix.Addr()
	for i := range addresses {
		next = next.Next()
		addresses[i] = next
	}
	return addresses
}

// Configuration says what Up builds.
type Configuration struct {
	// Prefix starts the names of all namespaces; if it is empty, they have no
	// names and end with the program.
	Prefix string
	Zones  []Zone
	Hosts  []Host
}

// DefaultPrefix starts the names of the lab's namespaces: tma-host-a and so on.
const DefaultPrefix = "tma-"

// DefaultConfiguration is the lab of two zones: host-a, in both, routes
// between host-b in zone A and host-c and host-d in zone B. Each host has 30
// extra addresses a family; host-a is the attacker too and has the benchmark
// network of RFC 2544 for spoofed sources.
func DefaultConfiguration() Configuration {
	return Configuration{
		Prefix: DefaultPrefix,
		Zones: []Zone{
			{Name: "zone-a", IPv4: netip.MustParsePrefix("172.25.10.0/24"), IPv6: netip.MustParsePrefix("fd25:10::/64"), Gateway: "host-a"},
			{Name: "zone-b", IPv4: netip.MustParsePrefix("172.25.20.0/24"), IPv6: netip.MustParsePrefix("fd25:20::/64"), Gateway: "host-a"},
		},
		Hosts: []Host{
			{
				Name: "host-a",
				Interfaces: []Interface{
					{Zone: "zone-a", IPv4: netip.MustParseAddr("172.25.10.2"), IPv6: netip.MustParseAddr("fd25:10::2")},
					{Zone: "zone-b", IPv4: netip.MustParseAddr("172.25.20.2"), IPv6: netip.MustParseAddr("fd25:20::2")},
				},
				Extra:  extra("172.25.10.32/27", "fd25:10::a:0/112"),
				Routed: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16")},
			},
			{
				Name: "host-b",
				Interfaces: []Interface{
					{Zone: "zone-a", IPv4: netip.MustParseAddr("172.25.10.3"), IPv6: netip.MustParseAddr("fd25:10::3")},
				},
				Extra: extra("172.25.10.64/27", "fd25:10::b:0/112"),
			},
			{
				Name: "host-c",
				Interfaces: []Interface{
					{Zone: "zone-b", IPv4: netip.MustParseAddr("172.25.20.3"), IPv6: netip.MustParseAddr("fd25:20::3")},
				},
				Extra: extra("172.25.20.64/27", "fd25:20::c:0/112"),
			},
			{
				Name: "host-d",
				Interfaces: []Interface{
					{Zone: "zone-b", IPv4: netip.MustParseAddr("172.25.20.4"), IPv6: netip.MustParseAddr("fd25:20::4")},
				},
				Extra: extra("172.25.20.96/27", "fd25:20::d:0/112"),
			},
		},
	}
}

func extra(ipv4, ipv6 string) []Range {
	return []Range{
		{Prefix: netip.MustParsePrefix(ipv4), Count: 30},
		{Prefix: netip.MustParsePrefix(ipv6), Count: 30},
	}
}

// Fleet lists the zones' prefixes: the networks in which the lab's hosts are.
func (c Configuration) Fleet() []netip.Prefix {
	var prefixes []netip.Prefix
	for _, z := range c.Zones {
		prefixes = append(prefixes, z.IPv4, z.IPv6)
	}
	return prefixes
}

// Addresses lists the host's addresses, those of its interfaces first.
func (h Host) Addresses() []netip.Addr {
	var addresses []netip.Addr
	for _, i := range h.Interfaces {
		addresses = append(addresses, i.IPv4, i.IPv6)
	}
	for _, r := range h.Extra {
		addresses = append(addresses, r.Addresses()...)
	}
	return addresses
}

// Validate says what of the configuration can't be built.
func (c Configuration) Validate() error {
	for _, z := range c.Zones {
		if gateway, ok := c.host(z.Gateway); !ok || gateway.in(z.Name) == nil {
			return fmt.Errorf("zone %s: gateway %q isn't a host in the zone", z.Name, z.Gateway)
		}
	}
	for _, h := range c.Hosts {
		if len(h.Interfaces) == 0 {
			return fmt.Errorf("host %s: no interfaces", h.Name)
		}
		for _, i := range h.Interfaces {
			z, ok := c.zone(i.Zone)
			if !ok {
				return fmt.Errorf("host %s: no zone named %q", h.Name, i.Zone)
			}
			if !z.IPv4.Contains(i.IPv4) || !z.IPv6.Contains(i.IPv6) {
				return fmt.Errorf("host %s: %v or %v is outside %s", h.Name, i.IPv4, i.IPv6, z.Name)
			}
		}
	}
	return nil
}

func (c Configuration) zone(name string) (Zone, bool) {
	i := slices.IndexFunc(c.Zones, func(z Zone) bool { return z.Name == name })
	if i < 0 {
		return Zone{}, false
	}
	return c.Zones[i], true
}

func (c Configuration) host(name string) (Host, bool) {
	i := slices.IndexFunc(c.Hosts, func(h Host) bool { return h.Name == name })
	if i < 0 {
		return Host{}, false
	}
	return c.Hosts[i], true
}

// names lists all that Up gives a namespace: zones, then hosts.
func (c Configuration) names() []string {
	var names []string
	for _, z := range c.Zones {
		names = append(names, z.Name)
	}
	for _, h := range c.Hosts {
		names = append(names, h.Name)
	}
	return names
}

// in returns the host's interface in the zone, nil if it has none there.
func (h Host) in(zone string) *Interface {
	for i := range h.Interfaces {
		if h.Interfaces[i].Zone == zone {
			return &h.Interfaces[i]
		}
	}
	return nil
}

// routedHere lists the prefixes by which others route to the host.
func (h Host) routedHere() []netip.Prefix {
	var prefixes []netip.Prefix
	for _, r := range h.Extra {
		prefixes = append(prefixes, r.Prefix)
	}
	return append(prefixes, h.Routed...)
}
