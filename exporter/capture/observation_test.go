package capture

import (
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// path is a way through a host that leads packets past several devices.
type path struct {
	// build makes the devices, and says to which device outside, by name, packets
	// are sent, and to which hardware address.
	build func(t *testing.T, outside *netns.Namespace) (from string, to net.HardwareAddr)
	seen  map[string]flow.Direction // where the host sees each packet
}

// paths are those of the design. The devices of the host are captured from by names
// that begin with h.
var paths = map[string]path{
	"forwarding": {
		build: func(t *testing.T, outside *netns.Namespace) (string, net.HardwareAddr) {
			addWire(t, outside, "h-in", "a")
			addWire(t, outside, "h-out", "b")
			forward(t, "h-out")
			return "a", hardwareAddr(t, "h-in")
		},
		seen: map[string]flow.Direction{"h-in": flow.Ingress, "h-out": flow.Egress},
	},
	// From one container to another through a bridge.
	"bridge": {
		build: func(t *testing.T, outside *netns.Namespace) (string, net.HardwareAddr) {
			addWire(t, outside, "h-c1", "c1")
			addWire(t, outside, "h-c2", "c2")
			addBridge(t, "h-br", "h-c1", "h-c2")
			to := outsideAddr(t, outside, "c2")
			must(t, netlink.NeighSet(&netlink.Neigh{
				LinkIndex: indexOf(t, "h-c2"), Family: unix.AF_BRIDGE, HardwareAddr: to,
				State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER,
			}))
			return "c1", to
		},
		seen: map[string]flow.Direction{"h-c1": flow.Ingress, "h-c2": flow.Egress},
	},
	// From a container out: through its pair, the bridge, and by the host's routes.
	"container": {
		build: func(t *testing.T, outside *netns.Namespace) (string, net.HardwareAddr) {
			addWire(t, outside, "h-c1", "c1")
			addWire(t, outside, "h-up", "up")
			addBridge(t, "h-br", "h-c1")
			forward(t, "h-up")
			return "c1", hardwareAddr(t, "h-br")
		},
		seen: map[string]flow.Direction{"h-c1": flow.Ingress, "h-br": flow.Ingress, "h-up": flow.Egress},
	},
	"macvlan": {
		build: func(t *testing.T, outside *netns.Namespace) (string, net.HardwareAddr) {
			addWire(t, outside, "h-lower", "a")
			must(t, netlink.LinkAdd(&netlink.Macvlan{
				LinkAttrs: netlink.LinkAttrs{Name: "h-mac", ParentIndex: indexOf(t, "h-lower")}, Mode: netlink.MACVLAN_MODE_BRIDGE,
			}))
			l := linkByName(t, "h-mac")
			must(t, netlink.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE))
			must(t, netlink.LinkSetUp(l))
			return "a", hardwareAddr(t, "h-mac")
		},
		seen: map[string]flow.Direction{"h-lower": flow.Ingress, "h-mac": flow.Ingress},
	},
}

// addWire makes a device of the host whose other end is outside.
func addWire(t *testing.T, outside *netns.Namespace, name, peer string) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer, PeerNamespace: netlink.NsFd(outside.Fd()),
	}))
	up := func(name string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}
	must(t, up(name))
	must(t, outside.Do(func() error { return up(peer) }))
}

func hardwareAddr(t *testing.T, name string) net.HardwareAddr {
	t.Helper()
	return linkByName(t, name).Attrs().HardwareAddr
}

func outsideAddr(t *testing.T, outside *netns.Namespace, name string) (address net.HardwareAddr) {
	t.Helper()
	must(t, outside.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			address = l.Attrs().HardwareAddr
		}
		return err
	}))
	return address
}

// farAway is where packets go that the host forwards; nobody has it, and so nobody
// answers.
var farAway = netip.MustParseAddr("198.51.100.9")

// forward makes the host a router that has a route to farAway by a device, without
// asking for the neighbour.
func forward(t *testing.T, device string) {
	t.Helper()
	for _, setting := range []string{"ip_forward=1", "conf/all/rp_filter=0", "conf/default/rp_filter=0"} {
		name, value, _ := strings.Cut(setting, "=")
		must(t, os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0o644))
	}
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+l.Attrs().Name+"/rp_filter", []byte("0"), 0o644))
	}
	addAddress(t, device, "198.51.100.1/24")
	addRoute(t, "lo", "10.0.0.0/8", "") // sources are known, replies end here
	must(t, netlink.NeighSet(&netlink.Neigh{
		LinkIndex: indexOf(t, device), IP: farAway.AsSlice(), State: netlink.NUD_PERMANENT,
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
	}))
}

// passing makes the packets of so many flows that a host forwards.
func passing(to net.HardwareAddr, flows int) []packet {
	packets := make([]packet, flows)
	for i := range packets {
		source := [4]byte{10}
		binary.BigEndian.PutUint32(source[:], 10<<24|uint32(i+1))
		link := ethernet(layers.EthernetTypeIPv4)
		link.DstMAC = to
		ip := ipv4(layers.IPProtocolUDP)
		ip.SrcIP, ip.DstIP = source[:], farAway.AsSlice()
		buffer := gopacket.NewSerializeBuffer()
		options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
		udp := &layers.UDP{SrcPort: 5000, DstPort: 53}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			panic(err)
		}
		if err := gopacket.SerializeLayers(buffer, options, link, ip, udp, payload(30+i%100)); err != nil {
			panic(err)
		}
		key := key4(flow.ProtocolUDP, 5000, 53)
		key.Source, key.Destination = netip.AddrFrom4(source).As16(), farAway.As16()
		packets[i] = packet{buffer.Bytes(), key}
	}
	return packets
}

// Packets that a host sees at several devices count once, flow by flow, over many
// ends of epochs, and what the other devices saw is reported as duplicates.
func TestOneObservationAHost(t *testing.T) {
	for name, p := range paths {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				seen, sent := p.run(t, 300, 2*time.Second, 64<<20)
				if !maps.Equal(seen.flows, sent.flows) {
					t.Errorf("flows differ: %d, sent %d", len(seen.flows), len(sent.flows))
				}
				p.check(t, seen, sent)
				checkIntervals(t, seen, sent)
			})
		})
	}
}

// The same with a flow table that is much too small, so that flows are folded while
// packets of theirs are on their way to the next device. The memory of flows that were
// folded is bounded, too: one packet in a thousand may count as another one, and is in
// the intervals.
func TestOneObservationOfFoldedFlows(t *testing.T) {
	for name, p := range paths {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				seen, sent := p.run(t, 60_000, 3*time.Second, 8<<20)
				if seen.folded == (epoch.Count{}) {
					t.Error("nothing was folded: the test's table isn't too small")
				}
				p.checkAlmost(t, seen, sent)
				checkIntervals(t, seen, sent)
			})
		})
	}
}

// run sends packets along a path for a time.
func (p *path) run(t *testing.T, flows int, duration time.Duration, memory uint64) (*recorder, *traffic) {
	t.Helper()
	// Bridges would speak of themselves by IPv6 multicast.
	for _, scope := range []string{"all", "default"} {
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/disable_ipv6", []byte("1"), 0o644))
	}
	must(t, netlink.LinkSetUp(linkByName(t, "lo")))
	outside := testutil.Namespace(t)
	from, to := p.build(t, outside)
	c, seen, stop := start(t, Config{Include: regexp.MustCompile("^h-.*$"), Memory: memory})
	testutil.Eventually(t, time.Minute, "attached", func() bool { return len(attached(c)) >= len(p.seen) })
	seen.keepEpochs()
	sent := &traffic{flows: map[flow.Key]epoch.Count{}}
	sent.run(t, outside, from, passing(to, flows), duration)
	time.Sleep(100 * time.Millisecond) // packets that wait for the next device
	stop()
	return seen, sent
}

// traffic is what was sent.
type traffic struct {
	flows map[flow.Key]epoch.Count
	total epoch.Count
}

// run sends the packets again and again, 20,000 a second.
func (s *traffic) run(t *testing.T, outside *netns.Namespace, device string, packets []packet, duration time.Duration) {
	t.Helper()
	var index, socket int
	must(t, outside.Do(func() (err error) {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		index = i.Index
		socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		return err
	}))
	defer unix.Close(socket)
	n := 0
	for end := time.Now().Add(duration); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for range 20 {
			p := &packets[n%len(packets)]
			n++
			must(t, unix.Sendto(socket, p.data, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6}))
			count := epoch.Count{Packets: 1, Bytes: uint64(len(p.data))}
			s.total.Add(count)
			count.Add(s.flows[p.key])
			s.flows[p.key] = count
		}
	}
}

// check compares totals: each device saw all, one of them counts.
func (p *path) check(t *testing.T, seen *recorder, sent *traffic) {
	t.Helper()
	counted := seen.folded
	for _, c := range seen.flows {
		counted.Add(c)
	}
	if counted != sent.total {
		t.Errorf("counted %v, sent %v", counted, sent.total)
	}
	var duplicates, want epoch.Count
	for device, direction := range p.seen {
		if got := seen.total(device, direction); got != sent.total {
			t.Errorf("%s %s saw %v, sent %v", device, direction, got, sent.total)
		}
		want.Add(sent.total)
	}
	want.Sub(sent.total)
	for _, d := range seen.devices {
		duplicates.Add(d.Duplicate)
	}
	if duplicates != want {
		t.Errorf("duplicates %v at all devices, want %v", duplicates, want)
	}
}

// checkAlmost compares totals where few packets may be taken for others. All that the
// devices saw is accounted for nonetheless.
func (p *path) checkAlmost(t *testing.T, seen *recorder, sent *traffic) {
	t.Helper()
	counted := seen.folded
	for _, c := range seen.flows {
		counted.Add(c)
	}
	if share := float64(counted.Bytes) / float64(sent.total.Bytes); share < 0.999 || share > 1.001 {
		t.Errorf("counted %v, sent %v", counted, sent.total)
	}
	all := counted
	for _, d := range seen.devices {
		all.Add(d.Duplicate)
	}
	for range p.seen {
		all.Sub(sent.total)
	}
	if all != (epoch.Count{}) {
		t.Errorf("counts and duplicates differ from what all devices saw by %v", all)
	}
}

// checkIntervals asserts that what was sent of every flow and every source prefix is in
// the sum of its intervals, and tells what is doubtful and hidden.
func checkIntervals(t *testing.T, seen *recorder, sent *traffic) {
	t.Helper()
	var doubtful, hidden epoch.Count
	lower := map[flow.Key]uint64{}
	for i := range seen.kept {
		e := &seen.kept[i]
		doubtful.Add(e.Doubtful)
		hidden.Add(e.Hidden)
		for j := range e.Flows {
			f := &e.Flows[j]
			doubtful.Add(f.Doubts())
			lower[f.Key] += e.FlowInterval(f).Lower
		}
	}
	t.Logf("%v sent, %v doubtful, %v hidden", sent.total, doubtful, hidden)
	prefixes := map[netip.Prefix]uint64{}
	for key, c := range sent.flows {
		if lower[key] > c.Bytes {
			t.Fatalf("flow %v: %d bytes, at least %d", key, c.Bytes, lower[key])
		}
		for _, bits := range []int{0, 8, 16, 24} {
			p, err := key.SourceAddr().Prefix(bits)
			must(t, err)
			prefixes[p] += c.Bytes
		}
	}
	for p, bytes := range prefixes {
		var sum epoch.Interval
		for i := range seen.kept {
			interval := seen.kept[i].PrefixInterval(flow.Source, p)
			sum.Lower += interval.Lower
			sum.Upper += interval.Upper
		}
		if !sum.Contains(bytes) {
			t.Fatalf("%v: %d bytes, not in %v", p, bytes, sum)
		}
	}
}
