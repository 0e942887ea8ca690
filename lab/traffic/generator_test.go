package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
	"github.com/traffic-monitor-agent/tma/lab/network"
)

// lab brings up a lab without names.
func lab(t testing.TB) *network.Network {
	t.Helper()
	testutil.RequireRoot(t)
	c := network.DefaultConfiguration()
	c.Prefix = ""
	n, err := network.Up(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Down() })
	return n
}

// run runs the generator in a host and fails the test on an error.
func run(t testing.TB, g *Generator, in *netns.Namespace) Result {
	t.Helper()
	var result Result
	err := in.Do(func() (err error) {
		result, err = g.Run(t.Context())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// statistics are the counters of a host's device.
func statistics(t testing.TB, in *netns.Namespace, device string) netlink.LinkStatistics {
	t.Helper()
	var s netlink.LinkStatistics
	err := in.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err == nil {
			s = *link.Attrs().Statistics
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What was sent is what the devices on the way counted and what a packet
// socket at the other end read, flow by flow; and nobody answers.
func TestTruthIsWhatArrives(t *testing.T) {
	for _, mode := range []Mode{Normal, Heavy} {
		t.Run(string(mode), func(t *testing.T) {
			n := lab(t)
			c := between(20_000, 500)
			c.Mode, c.Rate = mode, 50_000
			sender, from := n.Namespace("host-b"), "eth0"
			if mode == Heavy { // only host-a has the spoofed sources
				sender, from = n.Namespace("host-a"), "eth1"
				c.Sources = prefixes("172.25.20.2", "fd25:20::2")
			}
			receiver := n.Namespace("host-c")
			sentBefore, receivedBefore := statistics(t, sender, from), statistics(t, receiver, "eth0")
			seen := capture(t, receiver, int(c.Packets))
			g := generator(t, c)
			result := run(t, g, sender)
			if result.Packets != c.Packets || result.Refused != 0 {
				t.Errorf("sent %d packets, %d refused, want %d and 0", result.Packets, result.Refused, c.Packets)
			}
			got := <-seen
			checkFlows(t, g.Flows(), got)

			sent, received := statistics(t, sender, from), statistics(t, receiver, "eth0")
			if p, b := sent.TxPackets-sentBefore.TxPackets, sent.TxBytes-sentBefore.TxBytes; p != result.Packets || b != result.Bytes {
				t.Errorf("the sender's device counted %d packets, %d bytes; the truth is %d, %d", p, b, result.Packets, result.Bytes)
			}
			if p, b := received.RxPackets-receivedBefore.RxPackets, received.RxBytes-receivedBefore.RxBytes; p != result.Packets || b != result.Bytes {
				t.Errorf("the receiver's device counted %d packets, %d bytes; the truth is %d, %d", p, b, result.Packets, result.Bytes)
			}
			if answers := received.TxPackets - receivedBefore.TxPackets; answers != 0 {
				t.Errorf("the receiver sent %d packets", answers)
			}
			if answers := sent.RxPackets - sentBefore.RxPackets; answers != 0 {
				t.Errorf("the sender received %d packets", answers)
			}
		})
	}
}

// observation is what a receiver saw of a flow.
type observation struct {
	packets, bytes uint64
	next           uint32 // TCP's next sequence number
	finished       bool
}

func checkFlows(t *testing.T, flows []Flow, seen map[flow.Key]*observation) {
	t.Helper()
	for _, f := range flows {
		o := seen[f.Key]
		if o == nil {
			t.Errorf("%v: nothing arrived", f.Key)
			continue
		}
		if o.packets != f.Packets || o.bytes != f.Bytes {
			t.Errorf("%v: %d packets, %d bytes arrived; the truth is %d, %d", f.Key, o.packets, o.bytes, f.Packets, f.Bytes)
		}
		if f.Key.Protocol == flow.ProtocolTCP && f.behaviour == transfer && f.Packets > 1 && !o.finished {
			t.Errorf("%v: no FIN", f.Key)
		}
	}
	if len(seen) != len(flows) {
		t.Errorf("%d flows arrived, %d were sent", len(seen), len(flows))
	}
}

// capture reads that many packets in a namespace in the background.
func capture(t *testing.T, in *netns.Namespace, packets int) <-chan map[flow.Key]*observation {
	t.Helper()
	var socket int
	err := in.Do(func() (err error) {
		socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(networkOrder(unix.ETH_P_ALL)))
		return errors.Join(err, unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	})
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan map[flow.Key]*observation)
	go func() {
		defer unix.Close(socket)
		seen := map[flow.Key]*observation{}
		defer func() { result <- seen }()
		buffer := make([]byte, 2048)
		for range packets {
			length, err := unix.Read(socket, buffer)
			for err == unix.EINTR { // by the scheduler's signals
				length, err = unix.Read(socket, buffer)
			}
			if err != nil {
				t.Errorf("read the captured packets: %v", err)
				return
			}
			observe(t, seen, buffer[:length])
		}
	}()
	return result
}

// observe takes a packet apart by another implementation of the protocols.
func observe(t *testing.T, seen map[flow.Key]*observation, data []byte) {
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	if packet.ErrorLayer() != nil || packet.NetworkLayer() == nil || packet.TransportLayer() == nil {
		t.Errorf("not an IP packet with a transport header: %v", packet)
		return
	}
	source, _ := netip.AddrFromSlice(packet.NetworkLayer().NetworkFlow().Src().Raw())
	destination, _ := netip.AddrFromSlice(packet.NetworkLayer().NetworkFlow().Dst().Raw())
	key := flow.Key{Source: source.As16(), Destination: destination.As16()}
	tcp, isTCP := packet.TransportLayer().(*layers.TCP)
	if isTCP {
		key.SourcePort, key.DestinationPort, key.Protocol = uint16(tcp.SrcPort), uint16(tcp.DstPort), flow.ProtocolTCP
	} else {
		udp := packet.TransportLayer().(*layers.UDP)
		key.SourcePort, key.DestinationPort, key.Protocol = uint16(udp.SrcPort), uint16(udp.DstPort), flow.ProtocolUDP
	}
	if seen[key] == nil {
		seen[key] = &observation{}
	}
	o := seen[key]
	if isTCP {
		o.observeTCP(t, tcp)
	}
	o.packets++
	o.bytes += uint64(len(data))
	checkChecksums(t, packet)
}

// observeTCP checks that a segment continues its flow.
func (o *observation) observeTCP(t *testing.T, tcp *layers.TCP) {
	if tcp.SYN != (o.packets == 0) && !(tcp.SYN && tcp.DstPort == floodPort) || o.finished {
		t.Errorf("SYN %v, FIN seen %v at packet %d of %v", tcp.SYN, o.finished, o.packets, tcp.DstPort)
	}
	if o.packets > 0 && tcp.Seq != o.next {
		t.Errorf("sequence number %d, want %d", tcp.Seq, o.next)
	}
	o.next = tcp.Seq + uint32(len(tcp.Payload))
	if tcp.SYN || tcp.FIN {
		o.next++
	}
	o.finished = tcp.FIN
}

// checkChecksums wants the transport checksum wrong, and no other.
func checkChecksums(t *testing.T, packet gopacket.Packet) {
	err := packet.TransportLayer().(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}).SetNetworkLayerForChecksum(packet.NetworkLayer())
	if err != nil {
		t.Error(err)
		return
	}
	err, mismatches := packet.VerifyChecksums()
	if err != nil || len(mismatches) != 1 || mismatches[0].Layer.LayerType() != packet.TransportLayer().LayerType() {
		t.Errorf("checksum mismatches %v, %v; want the transport's alone", mismatches, err)
	}
}

// An elephant's packets are full frames, in either family.
func TestFrameSizes(t *testing.T) {
	n := lab(t)
	c := between(1000, 10)
	c.FrameSize, c.UDPShare, c.IPv6Share = SizeRange{1514, 1514}, 1, 0.5
	g := generator(t, c)
	if result := run(t, g, n.Namespace("host-b")); result.Bytes != 1000*1514 {
		t.Errorf("%d bytes, want %d", result.Bytes, 1000*1514)
	}
}

func TestRateIsKept(t *testing.T) {
	n := lab(t)
	c := between(2000, 10)
	c.Rate = 4000
	result := run(t, generator(t, c), n.Namespace("host-b"))
	if result.Packets != 2000 || result.Elapsed < 490*time.Millisecond || result.Elapsed > 2*time.Second {
		t.Errorf("%d packets in %v, want 2000 in 0.5s", result.Packets, result.Elapsed)
	}
}

func TestDurationEndsTheRun(t *testing.T) {
	n := lab(t)
	c := between(1_000_000, 10)
	c.Rate, c.Duration = 1000, 200*time.Millisecond
	g := generator(t, c)
	result := run(t, g, n.Namespace("host-b"))
	if result.Packets == 0 || result.Packets > 250 {
		t.Errorf("%d packets in %v, want about 200", result.Packets, result.Elapsed)
	}
	checkTruth(t, g, result)
}

// checkTruth wants the written truth to add up to the result.
func checkTruth(t *testing.T, g *Generator, result Result) {
	t.Helper()
	var text bytes.Buffer
	if err := WriteTruth(&text, g.Flows()); err != nil {
		t.Fatal(err)
	}
	var packets, total uint64
	for decoder := json.NewDecoder(&text); decoder.More(); {
		var line Truth
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		packets += line.Packets
		total += line.Bytes
	}
	if packets != result.Packets || total != result.Bytes {
		t.Errorf("the written truth adds up to %d packets, %d bytes; want %d, %d", packets, total, result.Packets, result.Bytes)
	}
}

func TestContextEndsTheRun(t *testing.T) {
	n := lab(t)
	c := between(1_000_000, 10)
	c.Rate = 1000
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := generator(t, c)
	err := n.Namespace("host-b").Do(func() error {
		result, err := g.Run(ctx)
		if result.Packets != 0 {
			t.Errorf("%d packets were sent", result.Packets)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Where no neighbour is known the generator finds it itself; where there is
// none it says so.
func TestNeighbourIsResolved(t *testing.T) {
	left, right := testutil.Namespace(t), testutil.Namespace(t)
	connect(t, left, right)
	c := between(100, 5)
	c.Sources, c.Destinations = prefixes("10.9.0.1", "fd09::1"), prefixes("10.9.0.2", "fd09::2")
	c.IPv6Share = 0.5
	before := statistics(t, right, "v0")
	g := generator(t, c)
	if result := run(t, g, left); result.Packets != 100 {
		t.Errorf("%d packets were sent, want 100", result.Packets)
	}
	if got := statistics(t, right, "v0").RxPackets - before.RxPackets; got < 100 {
		t.Errorf("%d packets arrived, want at least 100", got)
	}

	c.Destinations, c.IPv6Share = prefixes("10.9.0.3"), 0
	g = generator(t, c)
	err := left.Do(func() error { _, err := g.Run(t.Context()); return err })
	const want = "find the way to 10.9.0.3: next hop 10.9.0.3 doesn't answer on v0"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// connect joins two namespaces by a veth with ordinary neighbour discovery.
func connect(t *testing.T, left, right *netns.Namespace) {
	t.Helper()
	err := left.Do(func() error {
		veth := netlink.NewVeth(netlink.LinkAttrs{Name: "v0", TxQLen: -1})
		veth.PeerName, veth.PeerNamespace = "v0", netlink.NsFd(right.Fd())
		return netlink.LinkAdd(veth)
	})
	if err != nil {
		t.Fatal(err)
	}
	for number, in := range []*netns.Namespace{left, right} {
		err := in.Do(func() error {
			link, err := netlink.LinkByName("v0")
			if err != nil {
				return err
			}
			for _, address := range []net.IPNet{
				{IP: net.IPv4(10, 9, 0, byte(number+1)), Mask: net.CIDRMask(24, 32)},
				{IP: net.IP(netip.MustParseAddr("fd09::1").AsSlice()), Mask: net.CIDRMask(64, 128)},
			} {
				address.IP[len(address.IP)-1] = byte(number + 1)
				if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &address, Flags: unix.IFA_F_NODAD}); err != nil {
					return err
				}
			}
			return netlink.LinkSetUp(link)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The rate that the generator reaches from host to host in a zone.
func BenchmarkGenerator(b *testing.B) {
	n := lab(b)
	for _, size := range []int{MinFrameSize, MaxFrameSize} {
		b.Run(map[int]string{MinFrameSize: "small", MaxFrameSize: "large"}[size], func(b *testing.B) {
			c := between(max(uint64(b.N), 5000), 5000)
			c.FrameSize = SizeRange{size, size}
			c.Destinations = prefixes("172.25.10.2", "fd25:10::2")
			g := generator(b, c)
			b.ResetTimer()
			result := run(b, g, n.Namespace("host-b"))
			b.ReportMetric(result.Rate(), "packets/s")
			b.ReportMetric(float64(result.Refused), "refused")
		})
	}
}
