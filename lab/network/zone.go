package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	bridgeName = "br0"
	vethType   = "veth"
	mtu        = 1500
	// firstPortIndex is the interface index of a switch's first port, out of
	// the range that hosts' devices have: the kernel brings a veth up at once
	// only where its index differs from its peer's, and up to a second later
	// otherwise.
	firstPortIndex = 1000
)

// buildZone makes the zone's switch and hangs its hosts on it.
func (n *Network) buildZone(z Zone) error {
	return n.Namespace(z.Name).Do(func() error {
		// A switch has no addresses and takes no part in IPv6.
		if err := setSysctls(map[string]string{"net/ipv6/conf/default/disable_ipv6": "1"}); err != nil {
			return err
		}
		bridge, err := addBridge(z)
		if err != nil {
			return err
		}
		for position, h := range n.configuration.Hosts {
			if err := n.plugIn(bridge, z, h, firstPortIndex+position); err != nil {
				return fmt.Errorf("connect %s: %w", h.Name, err)
			}
		}
		return nil
	})
}

func addBridge(z Zone) (netlink.Link, error) {
	snooping := false
	bridge := &netlink.Bridge{
		LinkAttrs: netlink.LinkAttrs{
			Name: bridgeName, MTU: mtu, TxQLen: -1,
			HardwareAddr: hardwareAddr(switchPort, z.IPv4.Addr()),
		},
		MulticastSnooping: &snooping,
	}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("make bridge: %w", err)
	}
	return bridge, netlink.LinkSetUp(bridge)
}

// plugIn connects the host's devices in the zone, if any, to its switch: one
// end of the veth is the switch's port, named after the host, the other the
// host's device.
func (n *Network) plugIn(bridge netlink.Link, z Zone, h Host, portIndex int) error {
	for number, i := range h.Interfaces {
		if i.Zone != z.Name {
			continue
		}
		veth := netlink.NewVeth(netlink.LinkAttrs{
			Name: h.Name, Index: portIndex, MTU: mtu, TxQLen: -1, MasterIndex: bridge.Attrs().Index,
			HardwareAddr: hardwareAddr(switchPort, i.IPv4),
		})
		veth.PeerName = deviceName(number)
		veth.PeerMTU = mtu
		veth.PeerHardwareAddr = hardwareAddr(hostDevice, i.IPv4)
		veth.PeerNamespace = netlink.NsFd(n.Namespace(h.Name).Fd())
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("make veth: %w", err)
		}
		if err := configurePort(veth, veth.PeerHardwareAddr); err != nil {
			return err
		}
	}
	return nil
}

// configurePort makes the port forward by the static table alone. A switch
// that learns would flood here: hosts that only receive are never learnt.
func configurePort(port netlink.Link, peer net.HardwareAddr) error {
	if err := offloadsOff(port.Attrs().Name); err != nil {
		return err
	}
	if err := netlink.LinkSetLearning(port, false); err != nil {
		return fmt.Errorf("turn learning off: %w", err)
	}
	if err := netlink.LinkSetFlood(port, false); err != nil {
		return fmt.Errorf("turn flooding off: %w", err)
	}
	entry := &netlink.Neigh{
		LinkIndex: port.Attrs().Index, Family: unix.AF_BRIDGE, HardwareAddr: peer,
		State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER,
	}
	if err := netlink.NeighSet(entry); err != nil {
		return fmt.Errorf("add %v to the switch's table: %w", peer, err)
	}
	return netlink.LinkSetUp(port)
}

func deviceName(number int) string { return fmt.Sprintf("eth%d", number) }

// The second byte of a locally administered MAC address says whose it is, the
// last four are the IPv4 address.
const (
	hostDevice = 0x00
	switchPort = 0x01
)

func hardwareAddr(kind byte, ipv4 netip.Addr) net.HardwareAddr {
	a := ipv4.As4()
	return net.HardwareAddr{0x02, kind, a[0], a[1], a[2], a[3]}
}
