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
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// recorder adds up what a running capture hands over.
type recorder struct {
	mu       sync.Mutex
	flows    map[flow.Key]epoch.Count
	devices  map[string]epoch.Device // by name and direction
	networks []netip.Prefix
	epochs   int
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
	r.networks = slices.Clone(e.LocalNetworks)
	r.epochs++
}

func (r *recorder) total(device string, d flow.Direction) epoch.Count {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.devices[deviceKey(device, d)].Total
}

// start runs a capture in the namespace of the process until stop is called.
func start(t *testing.T, config Config) (c *Capture, seen *recorder, stop func()) {
	t.Helper()
	config.Epoch, config.Memory, config.Host = 100*time.Millisecond, 16<<20, "test"
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
	testutil.Eventually(t, 5*time.Second, fmt.Sprintf("attached to %v, at last %v", want, attached(c)), func() bool {
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
