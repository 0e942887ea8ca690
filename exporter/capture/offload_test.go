package capture

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
	"github.com/traffic-monitor-agent/tma/lab/network"
)

// end is one end of a wire between two namespaces, with a capture that sees everything
// since before the wire was up.
type end struct {
	namespace *netns.Namespace
	capture   *Capture
	v4, v6    netip.Addr
	before    [2]epoch.Count // of the device, when the capture began to count
	dropped   uint64         // by the device before
}

const (
	wireDevice = "eth0"
	tunnel     = "vxlan0"
)

// offload is how the ends of a wire are set. Those of the sender decide what its
// device must be given; the receiver puts together what comes in pieces.
type offload struct{ send, receive, big bool }

// newWire makes two namespaces with a wire between them, and a VXLAN tunnel in it.
func newWire(t *testing.T, set offload) (ends [2]*end) {
	t.Helper()
	for i := range ends {
		ends[i] = &end{
			namespace: testutil.Namespace(t),
			capture:   newTestCapture(t, smallMemory),
			v4:        netip.AddrFrom4([4]byte{10, 77, 0, byte(1 + i)}),
			v6:        netip.MustParseAddr(fmt.Sprintf("fd77::%d", 1+i)),
		}
		ends[i].capture.devices.config.Include = regexp.MustCompile("^" + wireDevice + "$")
	}
	must(t, ends[0].namespace.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: wireDevice}, PeerName: wireDevice,
			PeerNamespace: netlink.NsFd(ends[1].namespace.Fd()),
		})
	}))
	for i, on := range []bool{set.send, set.receive} {
		must(t, ends[i].namespace.Do(func() error { return ends[i].setUp(on, set.big, ends[1-i]) }))
	}
	for _, address := range []netip.Addr{ends[1].v4, ends[1].v6, inTunnel(ends[1].v4), inTunnel(ends[1].v6)} {
		reach(t, ends[0], ends[1], address)
	}
	for _, e := range ends {
		e.settle(t)
	}
	return ends
}

// reach sends datagrams to an address until one arrives: the link is up then, and the
// neighbours know each other.
func reach(t *testing.T, from, to *end, address netip.Addr) {
	t.Helper()
	receiver, sender := datagrams(t, from, to, address)
	defer receiver.Close()
	defer sender.Close()
	testutil.Eventually(t, 10*time.Second, "the wire's other end is reached", func() bool {
		_, err := sender.Write(make([]byte, 1))
		must(t, err)
		must(t, receiver.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err = receiver.Read(make([]byte, 1))
		return err == nil
	})
}

// datagrams makes a socket at an address of one end and one at the other that sends to
// it.
func datagrams(t *testing.T, from, to *end, address netip.Addr) (receiver, sender *net.UDPConn) {
	t.Helper()
	must(t, to.namespace.Do(func() (err error) {
		receiver, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		return err
	}))
	must(t, from.namespace.Do(func() (err error) {
		sender, err = net.DialUDP("udp", nil, receiver.LocalAddr().(*net.UDPAddr))
		return err
	}))
	return receiver, sender
}

// settle forgets what the capture and the device counted while the wire came up: its
// first packets left before the other end could take them.
func (e *end) settle(t *testing.T) {
	t.Helper()
	testutil.Eventually(t, 10*time.Second, "the wire is quiet", func() bool {
		e.before = e.counters(t)
		e.capture.takeAll()
		time.Sleep(5 * time.Millisecond)
		return e.counters(t) == e.before && len(e.capture.takeAll().points) == 0
	})
}

// setUp attaches the capture, and then makes the wire's end and the tunnel's usable.
func (e *end) setUp(offloads, big bool, other *end) error {
	if err := network.SetOffloads(wireDevice, offloads); err != nil {
		return err
	}
	if big {
		if err := setBigTCP(wireDevice); err != nil {
			return err
		}
	}
	if err := e.capture.devices.sync(); err != nil {
		return err
	}
	if err := setAddresses(wireDevice, e.v4, e.v6); err != nil {
		return err
	}
	err := netlink.LinkAdd(&netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: tunnel}, VxlanId: 1, Port: 4789,
		SrcAddr: e.v4.AsSlice(), Group: other.v4.AsSlice(),
	})
	if err != nil {
		return err
	}
	return setAddresses(tunnel, inTunnel(e.v4), inTunnel(e.v6))
}

// setBigTCP lets packets of segmentation offload be longer than IP's length fields can
// say.
func setBigTCP(device string) error {
	const size = 180_000
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, set := range []func(netlink.Link, int) error{
		netlink.LinkSetGSOMaxSize, netlink.LinkSetGROMaxSize, netlink.LinkSetGSOIPv4MaxSize, netlink.LinkSetGROIPv4MaxSize,
	} {
		if err := set(l, size); err != nil {
			return err
		}
	}
	return nil
}

// inTunnel is an address of the network in the tunnel, for one outside.
func inTunnel(a netip.Addr) netip.Addr {
	b := a.AsSlice()
	b[1]++
	inner, _ := netip.AddrFromSlice(b)
	return inner
}

func setAddresses(device string, addresses ...netip.Addr) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE); err != nil {
		return err
	}
	for _, a := range addresses {
		address := &netlink.Addr{
			IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen()-8, a.BitLen())},
			Flags: unix.IFA_F_NODAD,
		}
		if err := netlink.AddrAdd(l, address); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// saw returns, and clears, what the end's capture counted by direction, and each flow.
func (e *end) saw(t *testing.T) (totals [2]epoch.Count, flows map[flow.Key]epoch.Count) {
	t.Helper()
	o := e.capture.takeAll()
	var accounted, total epoch.Count
	for point, p := range o.points {
		totals[point&1].Add(p.total)
		total.Add(p.total)
		for _, other := range p.others {
			accounted.Add(other)
		}
	}
	flows = map[flow.Key]epoch.Count{}
	for at, count := range o.flows {
		accounted.Add(count)
		sum := flows[at.key]
		sum.Add(count)
		flows[at.key] = sum
	}
	if accounted != total {
		t.Errorf("flows and others count %v, the hook %v", accounted, total)
	}
	return totals, flows
}

// counters returns the device's own counters by direction, from the beginning.
func (e *end) counters(t *testing.T) (totals [2]epoch.Count) {
	t.Helper()
	must(t, e.namespace.Do(func() error {
		l, err := netlink.LinkByName(wireDevice)
		if err != nil {
			return err
		}
		s := l.Attrs().Statistics
		totals[flow.Ingress] = epoch.Count{Packets: s.RxPackets, Bytes: s.RxBytes}
		totals[flow.Egress] = epoch.Count{Packets: s.TxPackets, Bytes: s.TxBytes}
		e.dropped = s.TxDropped + s.RxDropped + s.TxErrors + s.RxErrors
		return nil
	}))
	return totals
}

// window bounds the data under way, so that it fits into the wire: a thousand packets
// wait for a CPU at most (net.core.netdev_max_backlog).
const window = 384 << 10

func boundWindow(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, window)
	})
	if err != nil {
		return err
	}
	return failed
}

// transfer sends data over TCP from one end to an address of the other and returns the
// key of that direction, and what the sender's TCP says that it sent, once all has
// arrived and both ends have closed.
func transfer(t *testing.T, from, to *end, address netip.Addr, bytes int64) (key flow.Key, sent sending) {
	t.Helper()
	var listener net.Listener
	must(t, to.namespace.Do(func() (err error) {
		config := net.ListenConfig{Control: boundWindow}
		listener, err = config.Listen(context.Background(), "tcp", netip.AddrPortFrom(address, 0).String())
		return err
	}))
	defer listener.Close()
	received := make(chan int64, 1)
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			received <- 0
			return
		}
		n, _ := io.Copy(io.Discard, connection)
		connection.Close()
		received <- n
	}()
	var connection net.Conn
	must(t, from.namespace.Do(func() (err error) {
		connection, err = net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		return err
	}))
	key = tcpKey(connection)
	raw, err := connection.(*net.TCPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		// Full segments only: where others are made depends on when the sender is woken.
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1)
	}))
	must(t, err)
	chunk := make([]byte, 1<<20)
	for left := bytes; left > 0; left -= int64(len(chunk)) {
		_, err := connection.Write(chunk[:min(left, int64(len(chunk)))])
		must(t, err)
	}
	must(t, connection.(*net.TCPConn).CloseWrite())
	_, err = connection.Read(chunk) // until the other end has closed
	if n := <-received; n != bytes || err != io.EOF {
		t.Fatalf("%d bytes arrived, sent %d; %v", n, bytes, err)
	}
	time.Sleep(50 * time.Millisecond) // for the last acknowledgement
	must(t, raw.Control(func(fd uintptr) { sent = sentBy(t, int(fd), address) }))
	must(t, connection.Close())
	return key, sent
}

// sending is what the kernel's TCP says that it sent, and what of that it sent again:
// where CPUs are scarce it takes late acknowledgements for losses.
type sending struct{ all, again epoch.Count }

// sentBy adds the headers to TCP's own counters. All segments have the time stamp option
// (RFC 7323), and the first has more options.
func sentBy(t *testing.T, socket int, to netip.Addr) sending {
	info, err := unix.GetsockoptTCPInfo(socket, unix.IPPROTO_TCP, unix.TCP_INFO)
	must(t, err)
	headers := uint64(14 + 20 + 20 + 12)
	if to.Is6() {
		headers += 20
	}
	const synOptions = 4 + 2 + 10 + 1 + 3 // MSS, SACK permitted, time stamps, padding, window scale
	segments, again := uint64(info.Segs_out), uint64(info.Total_retrans)
	return sending{
		all:   epoch.Count{Packets: segments, Bytes: info.Bytes_sent + segments*headers + synOptions - 12},
		again: epoch.Count{Packets: again, Bytes: info.Bytes_retrans + again*headers},
	}
}

func tcpKey(c net.Conn) flow.Key {
	local, remote := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	return flow.Key{
		Source: local.Addr().As16(), Destination: remote.Addr().As16(),
		SourcePort: local.Port(), DestinationPort: remote.Port(), Protocol: flow.ProtocolTCP,
	}
}

// The settings that are compared with all offloads off.
var offloads = map[string]offload{
	"all on":            {send: true, receive: true},
	"all on, BIG TCP":   {send: true, receive: true, big: true},
	"sender's alone":    {send: true},
	"the receiver's":    {receive: true},
	"all off once more": {},
}

// A transfer counts at the sender what its TCP says that it sent, to the byte; on both
// ends of the wire it counts the same whatever the offloads; and with them off it counts
// what the devices count, exactly.
func TestTransferCountsAsOnTheWire(t *testing.T) {
	long, short := int64(soak(100<<20, 1<<30)), int64(soak(20<<20, 200<<20))
	for name, test := range map[string]struct {
		address func(*end) netip.Addr
		bytes   int64
	}{
		"IPv4":       {func(e *end) netip.Addr { return e.v4 }, long},
		"IPv6":       {func(e *end) netip.Addr { return e.v6 }, long},
		"VXLAN IPv4": {func(e *end) netip.Addr { return inTunnel(e.v4) }, short},
		"VXLAN IPv6": {func(e *end) netip.Addr { return inTunnel(e.v6) }, short},
	} {
		t.Run(name, func(t *testing.T) {
			plain := countTransfers(t, offload{}, test.address, test.bytes)
			for name, set := range offloads {
				t.Run(name, func(t *testing.T) {
					for i, got := range countTransfers(t, set, test.address, test.bytes) {
						compareCounts(t, i, got, plain[i])
					}
				})
			}
		})
	}
}

// tunnelHeaders are what VXLAN over IPv4 puts before a frame.
const tunnelHeaders = 14 + 20 + 8 + 8

// countTransfers makes a transfer in each direction and returns what their data
// directions counted, less what was sent again: of the first at the sender and the
// receiver, then of the second. In a tunnel that is all that went in that direction.
func countTransfers(t *testing.T, set offload, address func(*end) netip.Addr, bytes int64) (all []epoch.Count) {
	t.Helper()
	ends := newWire(t, set)
	var sums [2][2]epoch.Count
	for i, from := range ends {
		to := ends[1-i]
		key, sent := transfer(t, from, to, address(to), bytes)
		for j, e := range []*end{from, to} {
			totals, flows := e.saw(t)
			count, ok := flows[key]
			if !ok { // in the tunnel
				count = totals[1-j]
				sent.again.Bytes += sent.again.Packets * tunnelHeaders * uint64(1-j)
			} else if j == 0 && count != sent.all {
				t.Errorf("%+v: the capture counts %v, TCP sent %v", set, count, sent.all)
			}
			count.Sub(sent.again)
			for direction := range totals {
				sums[(i+j)%2][direction].Add(totals[direction])
			}
			all = append(all, count)
		}
	}
	if set == (offload{}) {
		for i, e := range ends {
			dropped, counters := e.dropped, e.counters(t)
			for direction := range counters {
				counters[direction].Sub(e.before[direction])
			}
			if sums[i] != counters || e.dropped != dropped {
				t.Errorf("end %d: the capture counts %v, the device %v; it dropped %d", i, sums[i], counters, e.dropped-dropped)
			}
		}
	}
	return all
}

// compareCounts allows a thousandth: no two transfers are quite the same.
func compareCounts(t *testing.T, i int, got, want epoch.Count) {
	t.Helper()
	off := func(a, b uint64) float64 { return math.Abs(float64(a)-float64(b)) / float64(b) }
	t.Logf("transfer %d at end %d: %v, with offloads off %v: %+.4f %% of the bytes", i/2, (i/2+i)%2, got, want,
		100*(float64(got.Bytes)/float64(want.Bytes)-1))
	if off(got.Bytes, want.Bytes) > 0.001 || off(got.Packets, want.Packets) > 0.001 {
		t.Errorf("transfer %d at end %d counts %v, with offloads off %v", i/2, (i/2+i)%2, got, want)
	}
}

// Datagrams that are cut by UDP_SEGMENT are known to the byte.
func TestUDPSegmentsCountAsOnTheWire(t *testing.T) {
	const segment, size, sends = 1400, 60_000, 500
	segments := uint64((size + segment - 1) / segment)
	for name, set := range offloads {
		t.Run(name, func(t *testing.T) {
			ends := newWire(t, set)
			for _, address := range []netip.Addr{ends[1].v4, ends[1].v6} {
				key := sendSegments(t, ends[0], ends[1], address, segment, size, sends)
				headers := uint64(14 + 20 + 8)
				if address.Is6() {
					headers += 20
				}
				want := epoch.Count{Packets: sends * segments, Bytes: sends * (size + segments*headers)}
				for i, e := range ends {
					_, flows := e.saw(t)
					if got := flows[key]; got != want {
						t.Errorf("%v: end %d counts %v, want %v", address, i, got, want)
					}
				}
			}
		})
	}
}

// sendSegments sends datagrams with UDP_SEGMENT and returns their flow.
func sendSegments(t *testing.T, from, to *end, address netip.Addr, segment, size, sends int) flow.Key {
	t.Helper()
	receiver, sender := datagrams(t, from, to, address)
	defer receiver.Close()
	defer sender.Close()
	raw, err := sender.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, segment)
	}))
	must(t, err)
	data := make([]byte, size)
	for range sends {
		_, err := sender.Write(data)
		must(t, err)
	}
	time.Sleep(50 * time.Millisecond) // until all have come out of the wire
	local, remote := sender.LocalAddr().(*net.UDPAddr).AddrPort(), sender.RemoteAddr().(*net.UDPAddr).AddrPort()
	return flow.Key{
		Source: local.Addr().As16(), Destination: remote.Addr().As16(),
		SourcePort: local.Port(), DestinationPort: remote.Port(), Protocol: flow.ProtocolUDP,
	}
}
