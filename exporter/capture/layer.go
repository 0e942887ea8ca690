package capture

import (
	"slices"

	"github.com/vishvananda/netlink"
)

// The kinds of devices by what their packets begin with (linux/if_arp.h, as netlink
// names them).
const (
	encapEthernet = "ether"
	encapLoopback = "loopback"   // an Ethernet header without addresses
	encapRawIP    = "unknown519" // ARPHRD_RAWIP
	encapIP6GRE   = "unknown823" // ARPHRD_IP6GRE
)

// encapLayer3 are those whose packets begin with the IP header: tun and WireGuard, PPP
// and mobile modems, and tunnels.
var encapLayer3 = []string{"none", "ppp", "ipip", "tunnel6", "sit", "gre", encapRawIP, encapIP6GRE}

// deviceLayer3 is DEVICE_LAYER3 of bpf/maps.h.
const deviceLayer3 = uint32(1) << 16

func isLayer3(l netlink.Link) bool { return slices.Contains(encapLayer3, l.Attrs().EncapType) }

// takesLayer says whether devices of the interface's kind are captured from: Ethernet
// always, others if they are named. What they carry is seen at an Ethernet device too,
// inside a tunnel's packets, or never leaves the host.
func (c *Config) takesLayer(l netlink.Link) bool {
	encap := l.Attrs().EncapType
	if encap == encapEthernet {
		return true
	}
	other := encap == encapLoopback || isLayer3(l)
	return other && c.Layer3 != nil && c.Layer3.MatchString(l.Attrs().Name)
}

// announcement is what the program has to know of a device: its points, and how its
// packets begin.
func (d *device) announcement() uint32 {
	if d.layer3 {
		return uint32(2*d.number) | deviceLayer3
	}
	return uint32(2 * d.number)
}
