package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/traffic-monitor-agent/tma/internal/netns"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// anonymous is the default lab without names, so that tests can run beside a
// lab and leave nothing behind when they are killed.
func anonymous() Configuration {
	c := DefaultConfiguration()
	c.Prefix = ""
	return c
}

func up(t *testing.T, c Configuration) *Network {
	t.Helper()
	testutil.RequireRoot(t)
	n, err := Up(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Down(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// exchange sends a datagram from one host to an address of another by real
// sockets and returns what its owner read and from where.
func exchange(t *testing.T, n *Network, from string, source netip.Addr, to string, destination netip.Addr) (string, netip.Addr) {
	t.Helper()
	var receiver, sender *net.UDPConn
	must(t, n.Namespace(to).Do(func() (err error) {
		receiver, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(destination, 9000)))
		return err
	}))
	defer receiver.Close()
	must(t, n.Namespace(from).Do(func() (err error) {
		sender, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0)),
			net.UDPAddrFromAddrPort(netip.AddrPortFrom(destination, 9000)))
		return err
	}))
	defer sender.Close()
	if _, err := sender.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	must(t, receiver.SetReadDeadline(time.Now().Add(5*time.Second)))
	buffer := make([]byte, 16)
	length, peer, err := receiver.ReadFromUDPAddrPort(buffer)
	if err != nil {
		t.Fatalf("%s (%v) to %s (%v): %v", from, source, to, destination, err)
	}
	return string(buffer[:length]), peer.Addr().Unmap()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Every host reaches every address of every other host, from its main and from
// its extra addresses, in both families.
func TestHostsReachEachOther(t *testing.T) {
	n := up(t, anonymous())
	for _, from := range n.Configuration().Hosts {
		for _, to := range n.Configuration().Hosts {
			if from.Name == to.Name {
				continue
			}
			for _, source := range sample(from) {
				for _, destination := range sample(to) {
					if source.Is4() != destination.Is4() {
						continue
					}
					text, peer := exchange(t, n, from.Name, source, to.Name, destination)
					if text != "hello" || peer != source {
						t.Errorf("%v to %v: got %q from %v", source, destination, text, peer)
					}
				}
			}
		}
	}
}

// sample is the host's interface addresses, and the first and last of each
// extra range.
func sample(h Host) []netip.Addr {
	addresses := h.Addresses()[:2*len(h.Interfaces)]
	for _, r := range h.Extra {
		all := r.Addresses()
		addresses = append(addresses, all[0], all[len(all)-1])
	}
	return addresses
}

// A packet between the zones crosses host-b's device once, both of host-a's,
// host-c's, and no other; nothing else is on any wire.
func TestCountersShowThePath(t *testing.T) {
	n := up(t, anonymous())
	before := deviceCounters(t, n)
	exchange(t, n, "host-b", n.Host("host-b").Interfaces[0].IPv6, "host-c", n.Host("host-c").Interfaces[0].IPv6)
	const length uint64 = 14 + 40 + 8 + 5 // Ethernet, IPv6, UDP, "hello"
	want := map[string]counters{
		"host-b/eth0": {tx: 1, txBytes: length},
		"host-a/eth0": {rx: 1, rxBytes: length},
		"host-a/eth1": {tx: 1, txBytes: length},
		"host-c/eth0": {rx: 1, rxBytes: length},
		"host-d/eth0": {},
	}
	for device, now := range deviceCounters(t, n) {
		if got := now.less(before[device]); got != want[device] {
			t.Errorf("%s counted %+v, want %+v", device, got, want[device])
		}
	}
}

type counters struct{ rx, rxBytes, tx, txBytes uint64 }

func (c counters) less(d counters) counters {
	return counters{c.rx - d.rx, c.rxBytes - d.rxBytes, c.tx - d.tx, c.txBytes - d.txBytes}
}

func deviceCounters(t *testing.T, n *Network) map[string]counters {
	t.Helper()
	all := map[string]counters{}
	for _, h := range n.Configuration().Hosts {
		must(t, n.Namespace(h.Name).Do(func() error {
			links, err := netlink.LinkList()
			for _, l := range links {
				if s := l.Attrs().Statistics; l.Type() == vethType {
					all[h.Name+"/"+l.Attrs().Name] = counters{s.RxPackets, s.RxBytes, s.TxPackets, s.TxBytes}
				}
			}
			return err
		}))
	}
	return all
}

// The lab's wire stays quiet: two seconds are longer than any report or
// solicitation that the kernel would repeat.
func TestWireIsQuiet(t *testing.T) {
	n := up(t, anonymous())
	before := deviceCounters(t, n)
	time.Sleep(2 * time.Second)
	for device, now := range deviceCounters(t, n) {
		if got := now.less(before[device]); got != (counters{}) {
			t.Errorf("%s counted %+v though nobody sent", device, got)
		}
	}
}

// A TCP segment larger than the MTU would show an offload that is on.
func TestOffloadsAreOff(t *testing.T) {
	n := up(t, anonymous())
	var listener net.Listener
	target := netip.AddrPortFrom(n.Host("host-c").Interfaces[0].IPv4, 9000).String()
	must(t, n.Namespace("host-c").Do(func() (err error) {
		listener, err = net.Listen("tcp", target)
		return err
	}))
	defer listener.Close()
	var sender net.Conn
	before := deviceCounters(t, n)
	must(t, n.Namespace("host-b").Do(func() (err error) {
		sender, err = net.Dial("tcp", target)
		return err
	}))
	defer sender.Close()
	receiver, err := listener.Accept()
	must(t, err)
	defer receiver.Close()
	const size = 256 << 10
	go sender.Write(make([]byte, size))
	for got, buffer := 0, make([]byte, 1<<16); got < size; {
		length, err := receiver.Read(buffer)
		must(t, err)
		got += length
	}
	got := deviceCounters(t, n)["host-c/eth0"].less(before["host-c/eth0"])
	if least := uint64(size / mtu); got.rx < least {
		t.Errorf("%d bytes came in %d packets, want at least %d", size, got.rx, least)
	}
}

func named(t *testing.T) Configuration {
	t.Helper()
	c := DefaultConfiguration()
	c.Prefix = "tma-test-" + strings.ToLower(t.Name()) + "-"
	return c
}

func namespaceNames(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func ownNames(t *testing.T, c Configuration) []string {
	t.Helper()
	return slices.DeleteFunc(namespaceNames(t), func(name string) bool { return !strings.HasPrefix(name, c.Prefix) })
}

func TestNamesComeAndGo(t *testing.T) {
	testutil.RequireRoot(t)
	c := named(t)
	n, err := Up(c)
	must(t, err)
	want := []string{c.Prefix + "host-a", c.Prefix + "host-b", c.Prefix + "host-c", c.Prefix + "host-d", c.Prefix + "zone-a", c.Prefix + "zone-b"}
	if got := ownNames(t, c); !slices.Equal(got, want) {
		t.Errorf("up made %v, want %v", got, want)
	}
	must(t, n.Down())
	if got := ownNames(t, c); got != nil {
		t.Errorf("down left %v", got)
	}
	must(t, n.Down())
	must(t, Down(c))
}

// What a killed run left is replaced: complete namespaces, and a name on which
// none was mounted yet.
func TestUpReplacesLeftovers(t *testing.T) {
	testutil.RequireRoot(t)
	c := named(t)
	first, err := Up(c)
	must(t, err)
	must(t, netns.Remove(c.Prefix+"host-d"))
	must(t, os.WriteFile("/run/netns/"+c.Prefix+"host-d", nil, 0o600))
	for _, space := range first.namespaces {
		space.Close()
	}
	second, err := Up(c)
	must(t, err)
	exchange(t, second, "host-b", second.Host("host-b").Interfaces[0].IPv4, "host-d", second.Host("host-d").Interfaces[0].IPv4)
	must(t, second.Down())
	if got := ownNames(t, c); got != nil {
		t.Errorf("down left %v", got)
	}
}

func TestUpRefusesLabInUse(t *testing.T) {
	testutil.RequireRoot(t)
	c := named(t)
	n := up(t, c)
	sleeper, err := n.Namespace("host-b").Start(exec.Command("sleep", "60"))
	must(t, err)
	defer sleeper.Stop(0)
	if _, err := Up(c); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Up: %v, want %v", err, ErrInUse)
	}
	if err := Down(c); !errors.Is(err, ErrInUse) {
		t.Errorf("Down: %v, want %v", err, ErrInUse)
	}
}

func TestUpLeavesNothingOnError(t *testing.T) {
	testutil.RequireRoot(t)
	c := named(t)
	c.Hosts[3].Interfaces[0].IPv4 = c.Hosts[2].Interfaces[0].IPv4
	c.Hosts[3].Extra = []Range{c.Hosts[2].Extra[0], c.Hosts[2].Extra[0]} // the same addresses twice
	if _, err := Up(c); err == nil {
		t.Error("the same addresses twice on a host: no error")
	}
	if got := ownNames(t, c); got != nil {
		t.Errorf("a failed Up left %v", got)
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Configuration)
		want   string
	}{
		"default":         {func(*Configuration) {}, ""},
		"no interfaces":   {func(c *Configuration) { c.Hosts[1].Interfaces = nil }, "host host-b: no interfaces"},
		"unknown zone":    {func(c *Configuration) { c.Hosts[1].Interfaces[0].Zone = "x" }, `host host-b: no zone named "x"`},
		"unknown gateway": {func(c *Configuration) { c.Zones[0].Gateway = "x" }, `zone zone-a: gateway "x" isn't a host in the zone`},
		"gateway outside": {func(c *Configuration) { c.Zones[1].Gateway = "host-b" }, `zone zone-b: gateway "host-b" isn't a host in the zone`},
		"address outside": {func(c *Configuration) { c.Hosts[1].Interfaces[0].IPv4 = netip.MustParseAddr("10.0.0.1") }, "host host-b: 10.0.0.1 or fd25:10::3 is outside zone-a"},
	} {
		t.Run(name, func(t *testing.T) {
			c := DefaultConfiguration()
			test.change(&c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
