package capture

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

const (
	// loadBuffer bounds what a sender has on its way, so that all senders
	// together don't overflow a CPU's backlog (net.core.netdev_max_backlog,
	// 1,000 packets): a packet takes 768 bytes of it or more, and the kernel
	// doubles the number.
	loadBuffer = 8 << 10
	// loadPriority is above that of the kernel's softirq threads on PREEMPT_RT,
	// which have none, and below its interrupt threads, which have 50.
	loadPriority = 20
)

// senders are threads that send the same flows, all wires in both directions.
type senders struct {
	all []*sender
}

// sender sends from one end of a wire.
type sender struct {
	device, peer string
	flows        uint32 // the first of its wire's flows
	realTime     bool
	packets      int
	random       *rand.Rand
	frames       [loadFlows][]byte
	sent         [loadFlows]uint64
}

func newSenders(t *testing.T, threads int) *senders {
	t.Helper()
	s := &senders{}
	for i := range threads {
		wire := i / 2 % loadWires
		ends := [2]string{fmt.Sprintf("left%d", wire), fmt.Sprintf("right%d", wire)}
		if i/(2*loadWires)%2 == 1 {
			ends[0], ends[1] = ends[1], ends[0]
		}
		each := &sender{
			device: ends[0], peer: ends[1],
			flows:    uint32(wire * loadFlows),
			realTime: i%2 == 1,
			packets:  loadPackets/threads + btoi(i < loadPackets%threads),
			random:   rand.New(rand.NewPCG(uint64(i), 4)),
		}
		for f := range each.frames {
			each.frames[f] = udpPacket(each.flows+uint32(f), 20+f).data
		}
		s.all = append(s.all, each)
	}
	return s
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// run sends everything.
func (s *senders) run(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(len(s.all) + 4))
	var group sync.WaitGroup
	for _, each := range s.all {
		group.Go(func() {
			if err := each.run(); err != nil {
				t.Errorf("sending from %s: %v", each.device, err)
			}
		})
	}
	group.Wait()
}

// run sends from a thread of its own, which ends with the goroutine.
func (s *sender) run() error {
	runtime.LockOSThread()
	if s.realTime {
		attributes := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: loadPriority}
		if err := unix.SchedSetAttr(0, &attributes, 0); err != nil {
			return fmt.Errorf("become a SCHED_FIFO thread: %w", err)
		}
	}
	device, err := net.InterfaceByName(s.device)
	if err != nil {
		return err
	}
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUF, loadBuffer); err != nil {
		return err
	}
	return s.send(socket, &unix.SockaddrLinklayer{Ifindex: device.Index, Halen: 6})
}

// send sends without a pause, or, on a real-time thread, in bursts that begin at
// random moments of what the other threads do.
func (s *sender) send(socket int, to *unix.SockaddrLinklayer) error {
	for n := range s.packets {
		if s.realTime && n%4 == 0 {
			pause := unix.NsecToTimespec(int64(s.random.IntN(200_000)) * int64(time.Nanosecond))
			_ = unix.Nanosleep(&pause, nil) // woken early it sends early
		}
		f := s.random.IntN(loadFlows)
		if err := unix.Sendto(socket, s.frames[f], 0, to); err != nil {
			return fmt.Errorf("packet %d: %w", n, err)
		}
		s.sent[f]++
	}
	return nil
}

// truth is what each flow has at each hook: what a sender sends goes out of its
// device and comes in at the other end.
func (s *senders) truth() map[place]epoch.Count {
	sum := map[place]epoch.Count{}
	for _, each := range s.all {
		for f, packets := range each.sent {
			count := epoch.Count{Packets: packets, Bytes: packets * uint64(len(each.frames[f]))}
			for _, point := range []string{each.device + " egress", each.peer + " ingress"} {
				p := place{point, each.flows + uint32(f)}
				c := sum[p]
				c.Add(count)
				sum[p] = c
			}
		}
	}
	return sum
}

// flowNumber is the inverse of udpPacket: which flow a key belongs to, if to any.
func flowNumber(key *bpf.CaptureKey) (uint32, bool) {
	number := binary.BigEndian.Uint32(key.Source[12:]) &^ (10 << 24)
	if number >= loadWires*loadFlows {
		return 0, false
	}
	p := udpPacket(number, 0).key
	return number, p.Source == key.Source && p.Destination == key.Destination && p.Protocol == key.Protocol
}
