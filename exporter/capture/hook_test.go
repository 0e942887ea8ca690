package capture

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// other is somebody else's program: it counts packets and returns a verdict.
type other struct {
	program *ebpf.Program
	counter *ebpf.Map
}

// The verdicts that other programs give (enum tcx_action_base of
// include/uapi/linux/bpf.h, and TC_ACT_* alike).
const (
	verdictNext = -1
	verdictPass = 0
	verdictDrop = 2
)

func newOther(t *testing.T, verdict int32) other {
	t.Helper()
	counter, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, err)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, counter.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
			asm.Mov.Imm(asm.R0, verdict),
			asm.Return(),
		},
	})
	must(t, err)
	t.Cleanup(func() { program.Close(); counter.Close() })
	return other{program, counter}
}

func (o other) packets(t *testing.T) uint64 {
	t.Helper()
	var n uint64
	must(t, o.counter.Lookup(uint32(0), &n))
	return n
}

// attachTCX attaches the program behind those that are there.
func (o other) attachTCX(t *testing.T, index int) {
	t.Helper()
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: o.program, Attach: ebpf.AttachTCXIngress})
	must(t, err)
	t.Cleanup(func() { l.Close() })
}

// attachFilter attaches the program to clsact at a priority.
func (o other) attachFilter(t *testing.T, index int, priority, protocol uint16) {
	t.Helper()
	must(t, netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: priority, Protocol: protocol,
		},
		Fd: o.program.FD(), Name: "other", DirectAction: true,
	}))
}

func indexOf(t *testing.T, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l.Attrs().Index
}

// clsactOf tells whether a device has a clsact qdisc, and how many filters.
func clsactOf(t *testing.T, index int) (qdisc bool, filters int) {
	t.Helper()
	qdiscs, err := netlink.QdiscList(deviceLink(index))
	must(t, err)
	qdisc = slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Type() == "clsact" })
	for _, parent := range clsactParents {
		all, err := filtersOf(index, parent)
		must(t, err)
		filters += len(all)
	}
	return qdisc, filters
}

// hooks are the two ways to attach.
var hooks = map[string]bool{"tcx": false, "clsact": true}

func hookConfig(clsact bool) Config {
	return Config{Include: regexp.MustCompile("^eth.*$"), clsact: clsact}
}

func somePackets(n int) (frames [][]byte, count epoch.Count) {
	for i := range n {
		p := udpPacket(uint32(i), 100)
		frames = append(frames, p.data)
		count.Add(epoch.Count{Packets: 1, Bytes: uint64(len(p.data))})
	}
	return frames, count
}

// Programs of others, attached before and after ours by either mechanism, see what
// they saw without it, and ours sees what they drop. Afterwards they are still there.
func TestBesideOtherPrograms(t *testing.T) {
	for name, clsactOnly := range hooks {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				addVeth(t, "eth0", "wire0")
				index := indexOf(t, "eth0")
				must(t, netlink.QdiscAdd(clsactQdisc(index)))
				first, second, drop, never := newOther(t, verdictNext), newOther(t, verdictNext), newOther(t, verdictDrop), newOther(t, verdictPass)
				first.attachTCX(t, index)
				second.attachFilter(t, index, 1, unix.ETH_P_ALL)
				c, seen, stop := start(t, hookConfig(clsactOnly))
				waitAttached(t, c, "eth0")
				drop.attachFilter(t, index, 2, unix.ETH_P_ALL)
				never.attachFilter(t, index, 3, unix.ETH_P_ALL)
				frames, want := somePackets(40)
				send(t, "wire0", frames...)
				stop()
				send(t, "wire0", frames...)
				if got := seen.total("eth0", flow.Ingress); got != want {
					t.Errorf("saw %v, sent %v", got, want)
				}
				for i, o := range []other{first, second, drop} {
					if got := o.packets(t); got != 2*want.Packets {
						t.Errorf("program %d saw %d packets, sent %d", i, got, 2*want.Packets)
					}
				}
				if got := never.packets(t); got != 0 {
					t.Errorf("%d packets came behind the program that drops all", got)
				}
				if qdisc, filters := clsactOf(t, index); !qdisc || filters != 3 {
					t.Errorf("afterwards clsact %t with %d filters, want the others' 3", qdisc, filters)
				}
			})
		})
	}
}

// Where no other program needs it the qdisc goes with our filters, whoever comes
// and goes meanwhile.
func TestClsactCleansUp(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		index := indexOf(t, "eth0")
		c, seen, stop := start(t, hookConfig(true))
		waitAttached(t, c, "eth0")
		for _, a := range c.Attachments() {
			if a.Hook != "clsact" {
				t.Errorf("hook %s, want clsact", a.Hook)
			}
		}
		if qdisc, filters := clsactOf(t, index); !qdisc || filters != 2 {
			t.Fatalf("clsact %t with %d filters, want 2", qdisc, filters)
		}
		frames, want := somePackets(20)
		send(t, "wire0", frames...)
		send(t, "eth0", frames...)
		stop()
		for _, direction := range []flow.Direction{flow.Ingress, flow.Egress} {
			if got := seen.total("eth0", direction); got != want {
				t.Errorf("%s saw %v, sent %v", direction, got, want)
			}
		}
		if qdisc, filters := clsactOf(t, index); qdisc || filters != 0 {
			t.Errorf("afterwards clsact %t with %d filters, want none", qdisc, filters)
		}
	})
}

// The filters of a run that was killed are replaced, and so is its knowledge of
// who made the qdisc.
func TestClsactReplacesStaleFilters(t *testing.T) {
	for name, foreign := range map[string]bool{"own qdisc": false, "foreign qdisc": true} {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) {
				addVeth(t, "eth0", "wire0")
				index := indexOf(t, "eth0")
				if foreign {
					must(t, netlink.QdiscAdd(clsactQdisc(index)))
				}
				stale := newOther(t, verdictNext)
				for _, direction := range []flow.Direction{flow.Ingress, flow.Egress} {
					_, err := attachClsact(stale.program, index, direction)
					must(t, err)
				}
				c, seen, stop := start(t, hookConfig(true))
				waitAttached(t, c, "eth0")
				frames, want := somePackets(20)
				send(t, "wire0", frames...)
				stop()
				if got := seen.total("eth0", flow.Ingress); got != want || stale.packets(t) != 0 {
					t.Errorf("saw %v, sent %v; the stale filter saw %d packets", got, want, stale.packets(t))
				}
				if qdisc, filters := clsactOf(t, index); qdisc != foreign || filters != 0 {
					t.Errorf("afterwards clsact %t with %d filters, want %t with none", qdisc, filters, foreign)
				}
			})
		})
	}
}

// A priority that another kind of filter has, here by its protocol, is left to it; a
// qdisc that has no place for egress is said to be in the way.
func TestClsactAmongOtherKinds(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		addVeth(t, "eth1", "wire1")
		o := newOther(t, verdictNext)
		eth0, eth1 := indexOf(t, "eth0"), indexOf(t, "eth1")
		must(t, netlink.QdiscAdd(clsactQdisc(eth0)))
		onlyIPv4 := newOther(t, verdictNext)
		onlyIPv4.attachFilter(t, eth0, 1, unix.ETH_P_IP)
		h, err := attachClsact(o.program, eth0, flow.Ingress)
		must(t, err)
		frames, want := somePackets(5)
		send(t, "wire0", frames...)
		if got := o.packets(t); got != want.Packets {
			t.Errorf("behind another classifier %d packets, sent %d", got, want.Packets)
		}
		must(t, h.Close())
		if _, filters := clsactOf(t, eth0); filters != 1 || onlyIPv4.packets(t) != want.Packets {
			t.Errorf("%d filters are left, want the other one, which saw %d packets", filters, onlyIPv4.packets(t))
		}
		must(t, netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: eth1, Parent: netlink.HANDLE_INGRESS}}))
		if _, err := attachClsact(o.program, eth1, flow.Egress); err == nil || !strings.Contains(err.Error(), "qdisc of kind ingress") {
			t.Errorf("on a device with an ingress qdisc: %v", err)
		}
	})
}

// A hook that somebody removed is put back.
func TestRemovedHookComesBack(t *testing.T) {
	testutil.InNamespace(t, func(t *testing.T) {
		addVeth(t, "eth0", "wire0")
		index := indexOf(t, "eth0")
		c, _, _ := start(t, hookConfig(true))
		waitAttached(t, c, "eth0")
		must(t, netlink.QdiscDel(clsactQdisc(index)))
		must(t, c.devices.sync())
		testutil.Eventually(t, time.Second, "attached again", func() bool { _, filters := clsactOf(t, index); return filters == 2 })
	})
}
