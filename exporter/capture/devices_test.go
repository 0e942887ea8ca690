package capture

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// recorder adds up what a running capture hands over.
type recorder struct {
	mu       sync.Mutex
	flows    map[flow.Key]epoch.Count
	devices  map[string]epoch.Device // by name and direction
	folded   epoch.Count             // by source
	networks []netip.Prefix
	epochs   int
	keep     bool // epochs go into kept
	kept     []epoch.Epoch
}

func newRecorder() *recorder {
	return &recorder{flows: map[flow.Key]epoch.Count{}, devices: map[string]epoch.Device{}}
}

func deviceKey(name string, d flow.Direction) string { return name + " " + d.String() }

func (r *recorder) take(e *epoch.Epoch, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range e.Flows {
		c := r.flows[f.Key]
		c.Add(f.Count)
		r.flows[f.Key] = c
	}
	for _, d := range e.Devices {
		sum := r.devices[deviceKey(d.Name, d.Direction)]
		sum.Total.Add(d.Total)
		sum.Duplicate.Add(d.Duplicate)
		r.devices[deviceKey(d.Name, d.Direction)] = sum
	}
	if left := e.Unaccounted(flow.Source); left != (epoch.Count{}) {
		panic(fmt.Sprintf("epoch %d: %v unaccounted", e.Sequence, left))
	}
	r.folded.Add(e.Folded(flow.Source))
	r.networks = slices.Clone(e.LocalNetworks)
	r.epochs++
	if r.keep {
		kept := *e
		kept.Flows = slices.Clone(e.Flows)
		r.kept = append(r.kept, kept)
	}
}

// keepEpochs has the recorder keep the epochs from now on.
func (r *recorder) keepEpochs() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep = true
}

func (r *recorder) total(device string, d flow.Direction) epoch.Count {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.devices[deviceKey(device, d)].Total
}

// start runs a capture in the namespace of the process until stop is called.
func start(t *testing.T, config Config) (c *Capture, seen *recorder, stop func()) {
	t.Helper()
	config.Epoch, config.Host = 100*time.Millisecond, "test"
	if config.Memory == 0 {
		config.Memory = 16 << 20
	}
	c, err := New(config, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	seen = newRecorder()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, seen.take) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, seen, stop
}

// addVeth makes two Ethernet devices, each the other's wire, both up, without any
// traffic of the kernel's own.
func addVeth(t *testing.T, name, peer string) {
	t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer}
	must(t, netlink.LinkAdd(veth))
	for _, each := range []string{name, peer} {
		l, err := netlink.LinkByName(each)
		must(t, err)
		must(t, netlink.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE))
		must(t, netlink.LinkSetUp(l))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// send puts frames on a device.
func send(t *testing.T, device string, frames ...[]byte) {
	t.Helper()
	i, err := net.InterfaceByName(device)
	must(t, err)
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	must(t, err)
	defer unix.Close(socket)
	for _, frame := range frames {
		must(t, unix.Sendto(socket, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6}))
	}
}

// attached lists the devices to which both programs are attached.
func attached(c *Capture) []string {
	count := map[string]int{}
	for _, a := range c.Attachments() {
		count[a.Device]++
	}
	var names []string
	for name, n := range count {
		if n == 2 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func waitAttached(t *testing.T, c *Capture, want ...string) {
	t.Helper()
	testutil.Eventually(t, time.Minute, fmt.Sprintf("attached to %v, at last %v", want, attached(c)), func() bool {
		return slices.Equal(attached(c), want)
	})
}

func TestFollowsInterfaces(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		c, seen, stop := start(t, Config{Include: regexp.MustCompile("^(eth|new|big).*$"), Exclude: regexp.MustCompile("^eth9$")})
		waitAttached(t, c, "eth0") // neither lo nor the wire's other end
		addVeth(t, "eth1", "wire1")
		addVeth(t, "eth9", "wire9")
		waitAttached(t, c, "eth0", "eth1")

		packets := make([][]byte, 0, 50)
		var want epoch.Count
		for n := range uint32(50) {
			p := udpPacket(n, int(n))
			packets = append(packets, p.data)
			want.Add(epoch.Count{Packets: 1, Bytes: uint64(len(p.data))})
		}
		send(t, "wire1", packets...)
		send(t, "eth1", packets[:10]...)

		eth1, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.LinkSetDown(eth1)) // some kernels rename no other ones
		must(t, netlink.LinkSetName(eth1, "new1"))
		must(t, netlink.LinkSetUp(eth1))
		waitAttached(t, c, "eth0", "new1")
		must(t, netlink.LinkDel(eth1))
		waitAttached(t, c, "eth0")
		stop()
		got := seen.total("eth1", flow.Ingress)
		got.Add(seen.total("new1", flow.Ingress))
		if got != want {
			t.Errorf("eth1 saw %v coming in, sent %v", got, want)
		}
		if len(seen.flows) != 50 {
			t.Errorf("%d flows, sent 50", len(seen.flows))
		}
	})
}

// Two hundred interfaces at once, with one packet each as soon as it is there.
func TestBurstOfInterfaces(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		c, seen, stop := start(t, Config{Include: regexp.MustCompile("^eth.*$")})
		var names []string
		for i := range 200 {
			name := fmt.Sprintf("eth%d", i)
			addVeth(t, name, fmt.Sprintf("wire%d", i))
			names = append(names, name)
		}
		slices.Sort(names)
		waitAttached(t, c, names...)
		for i := range 200 {
			send(t, fmt.Sprintf("wire%d", i), udpPacket(uint32(i), i).data)
		}
		stop()
		for i := range 200 {
			want := epoch.Count{Packets: 1, Bytes: uint64(14 + 20 + 8 + max(i, 18))}
			if got := seen.total(fmt.Sprintf("eth%d", i), flow.Ingress); got != want {
				t.Fatalf("eth%d saw %v, want %v", i, got, want)
			}
		}
	})
}

// An interface that moves to another namespace and back is captured from again,
// also if nobody noticed the two moves one by one.
func TestMovesBetweenNamespaces(t *testing.T) {
	for name, clsact := range hooks {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				addVeth(t, "eth0", "wire0")
				c, seen, stop := start(t, hookConfig(clsact))
				waitAttached(t, c, "eth0")
				home, err := netns.Current()
				must(t, err)
				defer home.Close()
				away := testutil.Namespace(t)
				frames, once := somePackets(20)
				moveLink(t, home, away)
				waitAttached(t, c)
				moveLink(t, away, home)
				waitAttached(t, c, "eth0")
				waitUp(t, "wire0")
				send(t, "wire0", frames...)
				c.devices.syncing.Lock()
				moveLink(t, home, away)
				moveLink(t, away, home)
				c.devices.syncing.Unlock()
				must(t, c.devices.sync())
				waitUp(t, "wire0")
				send(t, "wire0", frames...)
				stop()
				want := once
				want.Add(once)
				if got := seen.total("eth0", flow.Ingress); got != want {
					t.Errorf("saw %v, sent %v", got, want)
				}
			})
		})
	}
}

// waitUp waits until a device has noticed that its other end is there again: before
// that it drops what is sent.
func waitUp(t *testing.T, name string) {
	t.Helper()
	testutil.Eventually(t, 10*time.Second, name+" is up", func() bool {
		return linkByName(t, name).Attrs().OperState == netlink.OperUp
	})
}

// moveLink moves eth0 from one namespace to another and sets it up there.
func moveLink(t *testing.T, from, to *netns.Namespace) {
	t.Helper()
	must(t, from.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetNsFd(l, to.Fd())
	}))
	must(t, to.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}))
}

// While patterns change, an interface that matches all of them misses nothing.
func TestReloadWithoutGap(t *testing.T) {
	for name, clsact := range hooks {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				addVeth(t, "eth0", "wire0")
				addVeth(t, "eth1", "wire1")
				addVeth(t, "lan0", "wire2")
				c, seen, stop := start(t, hookConfig(clsact))
				waitAttached(t, c, "eth0", "eth1")
				frames, once := somePackets(50)
				var want epoch.Count
				done := make(chan struct{})
				go func() {
					defer close(done)
					for range 200 {
						send(t, "wire0", frames...)
						want.Add(once)
					}
				}()
				for range 3 {
					must(t, c.Reload(Config{Include: regexp.MustCompile("^(eth0|lan.*)$")}))
					waitAttached(t, c, "eth0", "lan0")
					must(t, c.Reload(Config{Exclude: regexp.MustCompile("^(lan|wire).*$")}))
					waitAttached(t, c, "eth0", "eth1")
				}
				<-done
				stop()
				if got := seen.total("eth0", flow.Ingress); got != want {
					t.Errorf("saw %v, sent %v", got, want)
				}
				if got := seen.total("lan0", flow.Ingress); got != (epoch.Count{}) {
					t.Errorf("lan0 saw %v, nothing was sent", got)
				}
			})
		})
	}
}

// A host answers for what is behind its own bridges and pairs, and not for the
// networks of its uplinks.
func TestNetworksBehindLocalInterfaces(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "up0", "wire0")     // the way out, as a container has it
		addVeth(t, "router0", "wire1") // another way, without a gateway
		addVeth(t, "port0", "c0")      // to a container, through a bridge
		addVeth(t, "pair0", "c1")      // to a container, by a route of its own
		addTap(t, "tap0")              // of a guest on an uplink's bridge, which has port0's like
		addBridge(t, "inner0", "port0")
		addBridge(t, "outer0", "tap0")
		addBridge(t, "lan0", "wire0")
		for device, address := range map[string]string{
			"up0": "192.0.2.2/24", "router0": "198.51.100.1/24", "inner0": "172.17.0.1/16", "lan0": "203.0.113.1/24",
		} {
			addAddress(t, device, address)
		}
		addRoute(t, "pair0", "10.244.1.5/32", "")
		addRoute(t, "pair0", "10.245.0.0/16", "")
		addRoute(t, "outer0", "10.9.0.0/24", "")
		addRoute(t, "inner0", "fd00:17::/64", "")
		addRoute(t, "up0", "0.0.0.0/0", "192.0.2.1")
		links, err := netlink.LinkList()
		must(t, err)
		// A physical port makes a bridge an uplink; there is none to take in a test.
		for _, l := range links {
			if l.Attrs().Name == "wire0" {
				links = append(links, &netlink.Device{LinkAttrs: netlink.LinkAttrs{MasterIndex: l.Attrs().MasterIndex}})
			}
		}
		networks, err := localNetworks(links)
		must(t, err)
		var got []string
		for _, n := range networks {
			if !n.Addr().IsLinkLocalUnicast() {
				got = append(got, n.String())
			}
		}
		slices.Sort(got)
		want := []string{
			"10.244.1.5/32", "10.9.0.0/24", "172.17.0.0/16", "fd00:17::/64", // behind local interfaces
			"172.17.0.1/32", "192.0.2.2/32", "198.51.100.1/32", "203.0.113.1/32", // its own addresses
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("networks %v, want %v", got, want)
		}
	})
}

func linkByName(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func addTap(t *testing.T, name string) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}))
	must(t, netlink.LinkSetUp(linkByName(t, name)))
}

// addBridge makes a bridge with ports.
func addBridge(t *testing.T, name string, ports ...string) {
	t.Helper()
	snooping := false // it would ask hosts for their multicast groups
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}, MulticastSnooping: &snooping}))
	bridge := linkByName(t, name)
	must(t, netlink.LinkSetIP6AddrGenMode(bridge, nl.IN6_ADDR_GEN_MODE_NONE))
	for _, port := range ports {
		must(t, netlink.LinkSetMaster(linkByName(t, port), bridge))
	}
	must(t, netlink.LinkSetUp(bridge))
}

func addAddress(t *testing.T, device, address string) {
	t.Helper()
	parsed, err := netlink.ParseAddr(address)
	must(t, err)
	must(t, netlink.AddrAdd(linkByName(t, device), parsed))
}

func addRoute(t *testing.T, device, network, gateway string) {
	t.Helper()
	_, destination, err := net.ParseCIDR(network)
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: linkByName(t, device).Attrs().Index, Dst: destination, Gw: net.ParseIP(gateway)}))
}

func TestKnowsLocalNetworks(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		eth0, err := netlink.LinkByName("eth0")
		must(t, err)
		_, seen, _ := start(t, Config{})
		for _, address := range []string{"10.1.1.1/24", "fd01::1/64"} {
			parsed, err := netlink.ParseAddr(address)
			must(t, err)
			must(t, netlink.AddrAdd(eth0, parsed))
		}
		want := []netip.Prefix{netip.MustParsePrefix("10.1.1.1/32"), netip.MustParsePrefix("fd01::1/128")}
		testutil.Eventually(t, 3*time.Second, "the host's addresses are known", func() bool {
			seen.mu.Lock()
			defer seen.mu.Unlock()
			return slices.Equal(seen.networks, want)
		})
	})
}
