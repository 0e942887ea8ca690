package capture

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// books is where the bytes of all epochs of a run went.
type books struct {
	mu                                                     sync.Mutex
	devices                                                map[string]epoch.Count   // totals, by deviceKey
	flows                                                  map[flow.Key]epoch.Count // nil: not wanted
	largest                                                uint64                   // packets of a flow in an epoch
	inFlows, folded, remainder, others, duplicates, totals epoch.Count
	unaccounted                                            int // epochs
}

func (b *books) take(e *epoch.Epoch, _ time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, dimension := range flow.Dimensions {
		if e.Unaccounted(dimension) != (epoch.Count{}) {
			b.unaccounted++
		}
	}
	for i := range e.Flows {
		b.inFlows.Add(e.Flows[i].Count)
		b.largest = max(b.largest, e.Flows[i].Packets)
	}
	for i := 0; b.flows != nil && i < len(e.Flows); i++ {
		count := b.flows[e.Flows[i].Key]
		count.Add(e.Flows[i].Count)
		b.flows[e.Flows[i].Key] = count
	}
	for _, d := range e.Devices {
		total := b.devices[deviceKey(d.Name, d.Direction)]
		total.Add(d.Total)
		b.devices[deviceKey(d.Name, d.Direction)] = total
		b.totals.Add(d.Total)
		b.duplicates.Add(d.Duplicate)
		for _, other := range d.Others {
			b.others.Add(other.Count)
		}
	}
	b.folded.Add(e.Folded(flow.Source))
	b.remainder.Add(e.Remainder())
}

// check asserts that every byte is somewhere.
func (b *books) check(t *testing.T) {
	t.Helper()
	sum := b.inFlows
	for _, part := range []epoch.Count{b.folded, b.remainder, b.others, b.duplicates} {
		sum.Add(part)
	}
	t.Logf("total %v = flows %v + folded %v + remainder %v + others %v + duplicates %v",
		b.totals, b.inFlows, b.folded, b.remainder, b.others, b.duplicates)
	if sum != b.totals || b.unaccounted != 0 {
		t.Errorf("the parts sum up to %v, the total is %v; %d epochs don't balance", sum, b.totals, b.unaccounted)
	}
}

// capturing runs a capture on devices of the process's namespace until done is called;
// the books then say where everything went.
func capturing(t *testing.T, memory uint64, b *books, devices ...string) (done func()) {
	t.Helper()
	include := regexp.MustCompile("^(?:" + joined(devices) + ")$")
	c, err := New(Config{Include: include, Epoch: 500 * time.Millisecond, Memory: memory, Host: "test"}, slog.New(slog.DiscardHandler))
	must(t, err)
	b.devices = map[string]epoch.Count{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, b.take) }()
	waitAttached(t, c, devices...)
	return func() {
		cancel()
		must(t, <-ended)
		must(t, c.Close())
	}
}

func joined(names []string) string {
	all := names[0]
	for _, name := range names[1:] {
		all += "|" + name
	}
	return all
}

// batchLen is how many packets one system call sends at most.
const batchLen = 64

// sendBuffer bounds the packets on their way, so that they fit into the CPU's backlog
// (net.core.netdev_max_backlog, 1000 packets) and none is dropped there.
const sendBuffer = 256 << 10

// generator sends frames through a packet socket.
type generator struct {
	socket   int
	address  unix.RawSockaddrLinklayer
	parts    [batchLen]unix.Iovec
	messages [batchLen]struct { // struct mmsghdr
		header unix.Msghdr
		length uint32
		_      [4]byte
	}
}

func newGenerator(t *testing.T, device string) *generator {
	t.Helper()
	i, err := net.InterfaceByName(device)
	must(t, err)
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(socket) })
	must(t, unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer))
	g := &generator{socket: socket}
	g.address = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(i.Index), Halen: 6}
	for i := range g.messages {
		h := &g.messages[i].header
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&g.address)), unix.SizeofSockaddrLinklayer
		h.Iov = &g.parts[i]
		h.SetIovlen(1)
	}
	return g
}

// send sends at most batchLen frames.
func (g *generator) send(t *testing.T, frames [][]byte) {
	for i, frame := range frames {
		g.parts[i].Base = &frame[0]
		g.parts[i].SetLen(len(frame))
	}
	for sent := 0; sent < len(frames); {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(g.socket),
			uintptr(unsafe.Pointer(&g.messages[sent])), uintptr(len(frames)-sent), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			t.Fatalf("send: %v", errno)
		}
		sent += int(n)
	}
}

// Each capture, in order, reversed and shuffled, from one end of a wire to the other,
// with a capture at both: what was sent is what the devices count and what the hooks
// saw, and all of it is somewhere.
func TestReplay(t *testing.T) {
	orders := map[string]func([][]byte){
		"in order": func([][]byte) {},
		"reversed": slices.Reverse[[][]byte],
		"shuffled": func(frames [][]byte) {
			rand.New(rand.NewPCG(4, 4)).Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		},
	}
	forEachTrace(t, func(t *testing.T, frames [][]byte) {
		for name, arrange := range orders {
			for room, memory := range map[string]uint64{"room for all": 256 << 20, "room for few": 2 << 20} {
				t.Run(name+", "+room, func(t *testing.T) {
					testutil.InNamespace(t, func(t *testing.T) {
						frames := slices.Clone(frames)
						arrange(frames)
						replay(t, frames, memory, room == "room for all")
					})
				})
			}
		}
	})
}

func replay(t *testing.T, frames [][]byte, memory uint64, roomy bool) {
	addVeth(t, "eth0", "wire0")
	b := &books{flows: map[flow.Key]epoch.Count{}}
	done := capturing(t, memory, b, "eth0", "wire0")
	g := newGenerator(t, "wire0")
	var sent epoch.Count
	want := map[flow.Key]epoch.Count{}
	for batch := range slices.Chunk(frames, batchLen) {
		g.send(t, batch)
		for _, frame := range batch {
			sent.Add(epoch.Count{Packets: 1, Bytes: uint64(len(frame))})
			if v := judge(&sighting{data: frame}); v.reason == "" {
				count := want[v.key]
				count.Add(v.count)
				want[v.key] = count
			}
		}
	}
	arrived(t, "eth0", sent)
	done()
	b.check(t)
	for _, got := range []epoch.Count{
		deviceCounters(t, "wire0")[flow.Egress], b.devices[deviceKey("wire0", flow.Egress)],
		deviceCounters(t, "eth0")[flow.Ingress], b.devices[deviceKey("eth0", flow.Ingress)],
	} {
		if got != sent {
			t.Errorf("sent %v; by device and hook, first egress, then ingress: %v", sent, got)
		}
	}
	checkFlows(t, b, want, roomy)
}

// checkFlows asserts that no flow counts more than it sent, and, if there was room, that
// what flows lack is what was folded, and next to nothing: a few may share a full set.
func checkFlows(t *testing.T, b *books, want map[flow.Key]epoch.Count, roomy bool) {
	t.Helper()
	for key, count := range b.flows {
		if count.Bytes > want[key].Bytes || count.Packets > want[key].Packets {
			t.Fatalf("flow %+v counts %v, sent %v", key, count, want[key])
		}
	}
	if !roomy {
		return
	}
	var missing epoch.Count
	for key, count := range want {
		count.Sub(b.flows[key])
		missing.Add(count)
	}
	if missing != b.folded || b.remainder.Packets != 0 || b.folded.Packets > 100 {
		t.Errorf("flows lack %v; folded %v, remainder %v", missing, b.folded, b.remainder)
	}
}

// arrived waits until a device has counted what was sent to it.
func arrived(t *testing.T, device string, sent epoch.Count) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if deviceCounters(t, device)[flow.Ingress] == sent {
			return
		}
	}
	t.Fatalf("the device counts %v, sent %v", deviceCounters(t, device)[flow.Ingress], sent)
}

// flowPerPacket makes the headers of the n-th of many flows of one packet each.
type flowPerPacket struct{ frames [batchLen][]byte }

func newFlowPerPacket() *flowPerPacket {
	s := &flowPerPacket{}
	for i := range s.frames {
		s.frames[i] = extended(60, ethernet(eth4), ipv4(protocolUDP), udp)
	}
	return s
}

// batch returns the frames of flows from n on; they are valid until the next call.
func (s *flowPerPacket) batch(n, frames int) [][]byte {
	for i := range frames {
		binary.BigEndian.PutUint32(s.frames[i][26:], 10<<24|uint32(n+i))
	}
	return s.frames[:frames]
}

// Millions of packets, each of a flow of its own: as fast as they can be sent, and at a
// rate that the ring has to take without a remainder. That is lower in the short form,
// which shares its CPUs with other tests.
func TestEveryPacketANewFlow(t *testing.T) {
	packets := soak(500_000, 5_000_000)
	for name, rate := range map[string]int{"as fast as possible": 0, "paced": soak(200_000, 500_000)} {
		t.Run(name, func(t *testing.T) {
			testutil.InNamespace(t, func(t *testing.T) { floodWire(t, packets, rate) })
		})
	}
}

func floodWire(t *testing.T, packets, rate int) {
	addVeth(t, "eth0", "wire0")
	b := &books{}
	done := capturing(t, 64<<20, b, "eth0")
	dropBehind(t, "eth0")
	g, source := newGenerator(t, "wire0"), newFlowPerPacket()
	began := time.Now()
	for n := 0; n < packets; n += batchLen {
		g.send(t, source.batch(n, min(batchLen, packets-n)))
		if rate != 0 {
			for due := began.Add(time.Duration(n+batchLen) * time.Second / time.Duration(rate)); time.Now().Before(due); {
			}
		}
	}
	reached := float64(packets) / time.Since(began).Seconds()
	sent := epoch.Count{Packets: uint64(packets), Bytes: uint64(packets) * 60}
	arrived(t, "eth0", sent)
	done()
	t.Logf("%d packets of as many flows at %.0f a second", packets, reached)
	b.check(t)
	if got := b.devices[deviceKey("eth0", flow.Ingress)]; got != sent {
		t.Errorf("the hook saw %v, sent %v", got, sent)
	}
	if rate != 0 && b.remainder.Packets != 0 {
		t.Errorf("remainder of %v at %.0f packets a second", b.remainder, reached)
	}
	if b.largest != 1 || b.inFlows.Packets == 0 {
		t.Errorf("%d packets in flows, the largest has %d, want 1", b.inFlows.Packets, b.largest)
	}
}

// dropBehind drops what comes in on a device once all other programs have seen it, which
// spares the generator the cost of the host's stack.
func dropBehind(t *testing.T, device string) {
	t.Helper()
	const drop = 2 // TCX_DROP
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, drop), asm.Return()},
	})
	must(t, err)
	i, err := net.InterfaceByName(device)
	must(t, err)
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: i.Index, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: link.Tail(),
	})
	must(t, err)
	t.Cleanup(func() { l.Close(); program.Close() })
}
