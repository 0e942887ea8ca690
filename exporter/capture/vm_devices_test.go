//go:build vm

// Tests for kernels that have bond, VLAN and dummy devices: those of `make test-kernels`.

package capture

import (
	"fmt"
	"net"
	"regexp"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

const tagBytes = 4

// addDevice makes a device and brings it up, without traffic of the kernel's own.
func addDevice(t *testing.T, device netlink.Link) netlink.Link {
	t.Helper()
	must(t, netlink.LinkAdd(device))
	l, err := netlink.LinkByName(device.Attrs().Name)
	must(t, err)
	must(t, netlink.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE))
	must(t, netlink.LinkSetUp(l))
	return l
}

// addBond bonds eth0 and eth1, whose other ends are wire0 and wire1.
func addBond(t *testing.T) {
	t.Helper()
	bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: "bond0"})
	bond.Mode = netlink.BOND_MODE_BALANCE_RR
	bond.Miimon = 10
	l := addDevice(t, bond)
	for i := range 2 {
		name := fmt.Sprintf("eth%d", i)
		addVeth(t, name, fmt.Sprintf("wire%d", i))
		member, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetDown(member))
		must(t, netlink.LinkSetMaster(member, l))
		must(t, netlink.LinkSetUp(member))
	}
}

// addVLAN makes eth0.7, the VLAN of number 7 on eth0.
func addVLAN(t *testing.T) {
	t.Helper()
	addVeth(t, "eth0", "wire0")
	parent, err := netlink.LinkByName("eth0")
	must(t, err)
	addDevice(t, &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "eth0.7", ParentIndex: parent.Attrs().Index}, VlanId: 7})
}

// tagged is a count with so many tags a packet.
func tagged(c epoch.Count, tags uint64) epoch.Count {
	c.Bytes += tags * tagBytes * c.Packets
	return c
}

// sum adds counts.
func sum(counts ...epoch.Count) (all epoch.Count) {
	for _, c := range counts {
		all.Add(c)
	}
	return all
}

// expectOnce demands that each flow was counted once, as at the point that counts it,
// and that every other observation is a duplicate: totals are what each point saw.
func expectOnce(t *testing.T, seen *recorder, flows map[flow.Key]epoch.Count, totals map[string]epoch.Count) {
	t.Helper()
	var total, duplicate, counted epoch.Count
	for point, d := range seen.devices {
		if want := totals[point]; d.Total != want {
			t.Errorf("%s saw %v, want %v", point, d.Total, want)
		}
		total.Add(d.Total)
		duplicate.Add(d.Duplicate)
	}
	wrong := 0
	for key, want := range flows {
		got := seen.flows[key]
		if got != want {
			if wrong++; wrong <= 3 {
				t.Errorf("flow %v counts %v, sent %v", key, got, want)
			}
		}
		counted.Add(got)
	}
	if wrong > 0 || len(seen.flows) != len(flows) {
		t.Errorf("%d flows, sent %d, of which %d are wrong", len(seen.flows), len(flows), wrong)
	}
	counted.Add(duplicate)
	if counted != total {
		t.Errorf("flows and duplicates are %v, the hooks saw %v", counted, total)
	}
}

// A frame comes in at one of the bond's devices, and at the bond; it goes out at the
// bond, and at one of its devices.
func TestOnePointBond(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addBond(t)
		c, seen, stop := start(t, Config{Include: regexp.MustCompile("^(eth|bond).*$")})
		waitAttached(t, c, "bond0", "eth0", "eth1")
		in0, in1, out := newBatch(0), newBatch(1000), newBatch(2000)
		send(t, "wire0", in0.frames...)
		send(t, "wire1", in1.frames...)
		send(t, "bond0", out.frames...)
		stop()
		flows := map[flow.Key]epoch.Count{}
		for _, b := range []frameBatch{in0, in1, out} {
			for key, c := range b.flows {
				flows[key] = c
			}
		}
		left := seen.total("eth0", flow.Egress)
		if right := seen.total("eth1", flow.Egress); sum(left, right) != out.sum || left.Packets == 0 || right.Packets == 0 {
			t.Errorf("the bond's devices sent %v and %v, want %v in sum and some each", left, right, out.sum)
		}
		expectOnce(t, seen, flows, map[string]epoch.Count{
			"eth0 ingress": in0.sum, "eth1 ingress": in1.sum, "bond0 ingress": sum(in0.sum, in1.sum),
			"bond0 egress": out.sum, "eth0 egress": left, "eth1 egress": seen.total("eth1", flow.Egress),
		})
	})
}

// A frame that comes in with a tag passes eth0, where the tag is in the socket
// buffer's metadata and counts, and eth0.7, where it is gone. What goes out of eth0.7
// gets its tag, as metadata, before eth0. One with another tag passes eth0 alone.
func TestOnePointVLAN(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVLAN(t)
		c, seen, stop := start(t, Config{Include: regexp.MustCompile("^eth.*$")})
		waitAttached(t, c, "eth0", "eth0.7")
		in := newBatch(0, 0x81, 0x00, 0, 7)
		strange := newBatch(1000, 0x81, 0x00, 0, 8)
		double := newBatch(2000, 0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 9) // 802.1ad outside
		out := newBatch(3000)
		send(t, "wire0", in.frames...)
		send(t, "wire0", strange.frames...)
		send(t, "wire0", double.frames...)
		send(t, "eth0.7", out.frames...)
		stop()
		flows := map[flow.Key]epoch.Count{}
		for _, each := range []struct {
			frameBatch
			tags uint64 // where it is counted: at eth0.7, if that sees it
		}{{in, 0}, {strange, 1}, {double, 2}, {out, 0}} {
			for key, c := range each.flows {
				flows[key] = tagged(c, each.tags)
			}
		}
		expectOnce(t, seen, flows, map[string]epoch.Count{
			"eth0 ingress":   sum(tagged(in.sum, 1), tagged(strange.sum, 1), tagged(double.sum, 2)),
			"eth0.7 ingress": in.sum,
			"eth0.7 egress":  out.sum,
			"eth0 egress":    tagged(out.sum, 1),
		})
	})
}

// A dummy device sends into nowhere: one point, no duplicate.
func TestOnePointDummy(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addDevice(t, &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "dummy0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}})
		c, seen, stop := start(t, Config{Include: regexp.MustCompile("^dummy.*$")})
		waitAttached(t, c, "dummy0")
		out := newBatch(0)
		send(t, "dummy0", out.frames...)
		stop()
		expectOnce(t, seen, out.flows, map[string]epoch.Count{"dummy0 egress": out.sum})
	})
}
