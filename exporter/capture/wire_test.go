package capture

import (
	"encoding/binary"
	"net"
	"regexp"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
	"github.com/traffic-monitor-agent/tma/lab/network"
)

// What Program.Run can't make, real devices do: tags in metadata, packets without a
// layer-2 header, packets whose headers aren't in the linear part.

// attachTo attaches a capture to devices of the process's namespace, by their names.
func attachTo(t *testing.T, devices string, layer3 *regexp.Regexp) *Capture {
	t.Helper()
	c := newTestCapture(t, smallMemory)
	c.devices.config.Include = regexp.MustCompile("^(?:" + devices + ")$")
	c.devices.config.Layer3 = layer3
	must(t, c.devices.sync())
	return c
}

// pointOf is where a device's packets are counted.
func (c *Capture) pointOf(t *testing.T, name string, direction flow.Direction) uint16 {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	device := c.devices.byIndex[l.Attrs().Index]
	if device == nil {
		t.Fatalf("not attached to %s", name)
	}
	return uint16(2*device.number) + uint16(direction)
}

// deviceCounters are a device's own.
func deviceCounters(t *testing.T, name string) (counters [2]epoch.Count) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	s := l.Attrs().Statistics
	return [2]epoch.Count{
		flow.Ingress: {Packets: s.RxPackets, Bytes: s.RxBytes},
		flow.Egress:  {Packets: s.TxPackets, Bytes: s.TxBytes},
	}
}

// collect waits until as many packets are counted as expected and compares everything.
func (c *Capture) collect(t *testing.T, want *observed) {
	t.Helper()
	total := func(o *observed) (packets uint64) {
		for _, p := range o.points {
			packets += p.total.Packets
		}
		return packets
	}
	got := c.takeAll()
	for deadline := time.Now().Add(3 * time.Second); total(got) < total(want) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
		got.merge(c.takeAll())
	}
	for _, each := range got.differences(want) {
		t.Error(each)
	}
}

func (o *observed) merge(other *observed) {
	for point, p := range other.points {
		sum := o.points[point]
		sum.total.Add(p.total)
		sum.remainder.Add(p.remainder)
		for i := range p.others {
			sum.others[i].Add(p.others[i])
		}
		o.points[point] = sum
	}
	for at, count := range other.flows {
		sum := o.flows[at]
		sum.Add(count)
		o.flows[at] = sum
	}
}

// taggedFrames have one to four tags.
func taggedFrames() (frames [][]byte) {
	for n := 1; n <= 4; n++ {
		all := []gopacket.SerializableLayer{ethernet(ethQ)}
		for range n - 1 {
			all = append(all, tag(ethQ))
		}
		frames = append(frames, serialize(append(all, tag(eth4), ipv4(protocolUDP), udp, payload(100*n))...))
	}
	return frames
}

// The kernel takes the outermost tag out of a frame that comes in. It counts all the
// same, as in the device's own counters.
func TestTagsInMetadataCount(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		c := attachTo(t, "eth0|wire0", nil)
		want := newObserved()
		for _, frame := range taggedFrames() {
			want.expect(c.pointOf(t, "wire0", flow.Egress), judge(&sighting{data: frame, direction: flow.Egress}))
			inner := append(append([]byte{}, frame[:12]...), frame[16:]...)
			want.expect(c.pointOf(t, "eth0", flow.Ingress), judge(&sighting{data: inner, tagged: true}))
		}
		send(t, "wire0", taggedFrames()...)
		c.collect(t, want)
		in, out := want.points[c.pointOf(t, "eth0", flow.Ingress)].total, want.points[c.pointOf(t, "wire0", flow.Egress)].total
		if counters := deviceCounters(t, "eth0")[flow.Ingress]; in != out || in != counters {
			t.Errorf("counted %v coming in, %v going out; the device %v", in, out, counters)
		}
	})
}

// A tag that is put into metadata before the egress hook, as VLAN devices and bridges
// do, counts what the device's own counters have if it can't insert tags itself.
func TestTagsInMetadataCountOnEgress(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		must(t, network.SetOffloads("eth0", false))
		c := attachTo(t, "eth0", nil)
		attachFirst(t, "eth0", asm.Instructions{
			asm.LoadImm(asm.R2, 0x0081, asm.DWord), // ETH_P_8021Q in network order
			asm.LoadImm(asm.R3, 7, asm.DWord),
			asm.FnSkbVlanPush.Call(),
			asm.Mov.Imm(asm.R0, -1),
			asm.Return(),
		})
		frame := serialize(ethernet(eth4), ipv4(protocolUDP), udp, payload(100))
		want := newObserved()
		want.expect(c.pointOf(t, "eth0", flow.Egress), judge(&sighting{data: frame, direction: flow.Egress, tagged: true}))
		send(t, "eth0", frame)
		c.collect(t, want)
		counted := want.points[c.pointOf(t, "eth0", flow.Egress)].total
		if counters := deviceCounters(t, "eth0")[flow.Egress]; counted != counters {
			t.Errorf("counted %v, the device %v", counted, counters)
		}
	})
}

// attachFirst attaches a program before all others to a device's egress.
func attachFirst(t *testing.T, device string, instructions asm.Instructions) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: instructions})
	must(t, err)
	i, err := net.InterfaceByName(device)
	must(t, err)
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: i.Index, Program: program, Attach: ebpf.AttachTCXEgress, Anchor: link.Head(),
	})
	must(t, err)
	t.Cleanup(func() { l.Close(); program.Close() })
}

// Packets of a tun device begin with the IP header, and those of the loopback with an
// Ethernet header; both count only if they are named.
func TestDevicesWithoutEthernet(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		tun := &netlink.Tuntap{
			LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN,
			Flags: netlink.TUNTAP_NO_PI, Queues: 1, NonPersist: true,
		}
		must(t, netlink.LinkAdd(tun))
		must(t, netlink.LinkSetIP6AddrGenMode(tun, 1))
		must(t, netlink.LinkSetUp(tun))
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
		if c := attachTo(t, ".*", nil); len(c.devices.byIndex) != 0 {
			t.Fatalf("attached to %d devices without being told to", len(c.devices.byIndex))
		}
		c := attachTo(t, ".*", regexp.MustCompile("^(?:tun0|lo)$"))
		want := newObserved()
		for name, p := range counted {
			if etherType := layers.EthernetType(runProtocol(p.data)); etherType != eth4 && etherType != eth6 {
				continue
			}
			packet := p.data[14:]
			s := &sighting{data: packet, layer3: true}
			if v := judge(s); v.key != p.key {
				t.Errorf("%s: the oracle says %+v, want %+v", name, v, p.key)
			}
			want.expect(c.pointOf(t, "tun0", flow.Ingress), judge(s))
			_, err := tun.Fds[0].Write(packet)
			must(t, err)
			s.direction = flow.Egress
			want.expect(c.pointOf(t, "tun0", flow.Egress), judge(s))
			send(t, "tun0", packet)
		}
		frame := serialize(ethernet(eth4), ipv4(protocolUDP), udp, payload(10))
		for _, direction := range both {
			want.expect(c.pointOf(t, "lo", direction), judge(&sighting{data: frame, direction: direction}))
		}
		send(t, "lo", frame)
		c.collect(t, want)
		for _, direction := range both {
			counted := want.points[c.pointOf(t, "tun0", direction)].total
			if counters := deviceCounters(t, "tun0")[direction]; counted != counters && direction == flow.Ingress {
				t.Errorf("%v: counted %v, the device %v", direction, counted, counters)
			}
		}
	})
}

// offloaded is struct virtio_net_hdr of linux/virtio_net.h: what a packet socket says
// of a packet, and a guest of its own.
type offloaded struct {
	Flags, GSOType                              uint8
	HeaderLen, GSOSize, ChecksumAt, ChecksumOff uint16
}

// sendOffloaded puts frames on a device of which only the first bytes, as many as the
// header says, are in the linear part.
func sendOffloaded(t *testing.T, device string, header offloaded, frames ...[]byte) {
	t.Helper()
	i, err := net.InterfaceByName(device)
	must(t, err)
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	must(t, err)
	defer unix.Close(socket)
	must(t, unix.SetsockoptInt(socket, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	prefix, err := binary.Append(nil, binary.NativeEndian, header)
	must(t, err)
	for _, frame := range frames {
		must(t, unix.Sendto(socket, append(prefix[:len(prefix):len(prefix)], frame...), 0,
			&unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6}))
	}
}

// setMTU lets a device take large frames.
func setMTU(t *testing.T, mtu int, names ...string) {
	t.Helper()
	for _, name := range names {
		l, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetMTU(l, mtu))
	}
}

// Every crafted packet, with all that is behind the Ethernet header outside the linear
// part, counts the same.
func TestNonLinearPackets(t *testing.T) {
	const linear, size = 14, 6000 // beyond a page, or the kernel makes it linear
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		setMTU(t, 9000, "eth0", "wire0")
		c := attachTo(t, "eth0|wire0", nil)
		longest := linearLength(t, "wire0")
		want := newObserved()
		for _, packet := range craftedPackets() {
			if is := layers.EthernetType(runProtocol(packet)); is == ethQ || is == layers.EthernetTypeQinQ {
				continue // TestTagsInMetadataCount has those
			}
			frame := append(append([]byte{}, packet...), make([]byte, size-len(packet))...)
			want.expect(c.pointOf(t, "wire0", flow.Egress), judge(&sighting{data: frame, direction: flow.Egress}))
			want.expect(c.pointOf(t, "eth0", flow.Ingress), judge(&sighting{data: frame}))
			sendOffloaded(t, "wire0", offloaded{HeaderLen: linear}, frame)
		}
		c.collect(t, want)
		if n := longest(); n != linear {
			t.Errorf("%d bytes were in the linear part, want %d: this test proves nothing", n, linear)
		}
	})
}

// linearLength returns a function that returns the linear length of the last packet that
// left a device.
func linearLength(t *testing.T, device string) func() uint32 {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	must(t, err)
	t.Cleanup(func() { m.Close() })
	const data, dataEnd = 76, 80 // of struct __sk_buff
	attachFirst(t, device, asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, dataEnd, asm.Word),
		asm.LoadMem(asm.R7, asm.R1, data, asm.Word),
		asm.Sub.Reg(asm.R6, asm.R7),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.StoreMem(asm.R0, 0, asm.R6, asm.Word),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("end"),
		asm.Return(),
	})
	return func() (n uint32) {
		must(t, m.Lookup(uint32(0), &n))
		return n
	}
}

// A packet of a guest comes without its number of segments.
func TestSegmentsOfGuestsCount(t *testing.T) {
	const size = 1000
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		c := attachTo(t, "eth0|wire0", nil)
		want := newObserved()
		for i, data := range []int{1, 999, 1000, 1001, 2000, 30_000, 60_000} {
			ip := ipv4(protocolTCP)
			ip.SrcIP = net.IP{10, 2, 0, byte(i)}
			frame := serialize(ethernet(eth4), ip, tcp, payload(data))
			header := offloaded{
				Flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, GSOType: unix.VIRTIO_NET_HDR_GSO_TCPV4,
				HeaderLen: 54, GSOSize: size, ChecksumAt: 34, ChecksumOff: 16,
			}
			sendOffloaded(t, "wire0", header, frame)
			s := &sighting{data: frame, direction: flow.Egress, gsoSize: size}
			want.expect(c.pointOf(t, "wire0", flow.Egress), judge(s))
			s.direction = flow.Ingress
			want.expect(c.pointOf(t, "eth0", flow.Ingress), judge(s))
		}
		c.collect(t, want)
	})
}
