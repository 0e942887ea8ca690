package traffic

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hop is where packets to a destination leave the host.
type hop struct {
	device              int // its index
	source, destination [6]byte
}

// resolutionLimit is how long a next hop may take to tell its MAC address.
const resolutionLimit = 3 * time.Second

// resolveAll finds the hops to the destinations, by the routes and neighbours
// of the calling thread's namespace.
func resolveAll(destinations []netip.Addr) ([]hop, error) {
	hops := make([]hop, len(destinations))
	for i, d := range destinations {
		var err error
		if hops[i], err = resolve(d); err != nil {
			return nil, fmt.Errorf("find the way to %v: %w", d, err)
		}
	}
	return hops, nil
}

func resolve(destination netip.Addr) (hop, error) {
	routes, err := netlink.RouteGet(destination.AsSlice())
	if err != nil {
		return hop{}, err
	}
	if len(routes) == 0 || routes[0].Type != unix.RTN_UNICAST {
		return hop{}, errors.New("it isn't reached through a device")
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return hop{}, err
	}
	mac := link.Attrs().HardwareAddr
	if len(mac) != 6 || link.Attrs().Flags&net.FlagLoopback != 0 {
		return hop{}, fmt.Errorf("%s is no Ethernet device", link.Attrs().Name)
	}
	next := net.IP(destination.AsSlice())
	if routes[0].Gw != nil {
		next = routes[0].Gw
	}
	neighbour, err := resolveNeighbour(link.Attrs(), next)
	if err != nil {
		return hop{}, err
	}
	return hop{device: link.Attrs().Index, source: [6]byte(mac), destination: [6]byte(neighbour)}, nil
}

// resolveNeighbour returns a neighbour's MAC address. If the kernel doesn't
// know it, it is made to ask by a datagram to the discard port.
func resolveNeighbour(link *netlink.LinkAttrs, next net.IP) (net.HardwareAddr, error) {
	asked := false
	for deadline := time.Now().Add(resolutionLimit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		mac, err := lookUpNeighbour(link.Index, next)
		if mac != nil || err != nil {
			return mac, err
		}
		if !asked {
			asked = true
			if err := sendDiscard(link.Name, next); err != nil {
				return nil, err
			}
		}
	}
	return nil, fmt.Errorf("next hop %v doesn't answer on %s", next, link.Name)
}

// usableStates are those in which a neighbour's MAC address may be used.
const usableStates = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE |
	netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE

func lookUpNeighbour(device int, next net.IP) (net.HardwareAddr, error) {
	neighbours, err := netlink.NeighList(device, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	for _, n := range neighbours {
		if n.IP.Equal(next) && n.State&usableStates != 0 && len(n.HardwareAddr) == 6 && !bytes.Equal(n.HardwareAddr, make([]byte, 6)) {
			return n.HardwareAddr, nil
		}
	}
	return nil, nil
}

const discardPort = 9

func sendDiscard(device string, to net.IP) error {
	remote := &net.UDPAddr{IP: to, Port: discardPort}
	if to.IsLinkLocalUnicast() {
		remote.Zone = device
	}
	conn, err := net.DialUDP("udp", nil, remote)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write(nil)
	return err
}
