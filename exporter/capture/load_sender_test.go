package capture

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

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
	// loadPriority is the lowest of the real-time threads, which all have
	// different ones: above the kernel's softirq threads, which have none, and
	// below its interrupt threads on PREEMPT_RT, which have 50.
	loadPriority = 2
	loadWake     = 4  // packets after which an ordinary thread wakes a real-time one, on average
	loadRun      = 64 // packets of a flow that an ordinary thread sends in a row, on average
)

// senders are threads that send the same flows, all wires in both directions.
type senders struct {
	all   []*sender
	bells []int // of all real-time threads
}

// sender sends from one end of a wire.
type sender struct {
	device, peer string
	flows        uint32 // the first of its wire's flows
	priority     uint32 // of SCHED_FIFO; 0: an ordinary thread
	packets      int    // of an ordinary thread
	random       *rand.Rand
	flow         int // of the last packet
	bell         int // eventfd that wakes a real-time thread
	cpu          int // where a real-time thread runs
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
			flows:   uint32(wire * loadFlows),
			packets: loadPackets / ((threads + 1) / 2),
			random:  rand.New(rand.NewPCG(uint64(i), 4)),
		}
		if i%2 == 1 {
			each.priority = loadPriority + uint32(i)%40
			each.cpu = i / 2 % runtime.NumCPU()
			bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			must(t, err)
			t.Cleanup(func() { unix.Close(bell) })
			each.bell = bell
			s.bells = append(s.bells, bell)
		}
		for f := range each.frames {
			each.frames[f] = udpPacket(each.flows+uint32(f), 20+f).data
		}
		s.all = append(s.all, each)
	}
	return s
}

// run sends until the ordinary threads have sent all of theirs.
func (s *senders) run(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(len(s.all) + 4))
	// The collector locks a goroutine while it scans its stack. A real-time thread
	// that wakes up meanwhile spins until that ends, and keeps it from ending if it
	// has preempted the collector.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	ctx, cancel := context.WithCancel(t.Context())
	var ordinary, all sync.WaitGroup
	for _, each := range s.all {
		group := &ordinary
		if each.priority > 0 {
			group = &all
		}
		group.Go(func() {
			if err := each.run(ctx, s.bells); err != nil {
				t.Errorf("sending from %s: %v", each.device, err)
			}
		})
	}
	ordinary.Wait()
	cancel()
	for _, bell := range s.bells {
		must(t, wake(bell))
	}
	all.Wait()
}

// packets is how many were sent.
func (s *senders) packets() (sum uint64) {
	for _, each := range s.all {
		for _, packets := range each.sent {
			sum += packets
		}
	}
	return sum
}

// run sends from a thread of its own, which ends with the goroutine.
func (s *sender) run(ctx context.Context, bells []int) error {
	runtime.LockOSThread()
	if s.priority > 0 {
		attributes := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: s.priority}
		if err := unix.SchedSetAttr(0, &attributes, 0); err != nil {
			return fmt.Errorf("become a SCHED_FIFO thread: %w", err)
		}
		var cpus unix.CPUSet
		cpus.Set(s.cpu)
		if err := unix.SchedSetaffinity(0, &cpus); err != nil {
			return fmt.Errorf("run on CPU %d: %w", s.cpu, err)
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
	return s.send(ctx, bells, socket, &unix.SockaddrLinklayer{Ifindex: device.Index, Halen: 6})
}

// send sends all packets without a pause, or, on a real-time thread, one whenever it
// is woken, until the context ends.
func (s *sender) send(ctx context.Context, bells []int, socket int, to *unix.SockaddrLinklayer) error {
	for n := 0; s.priority > 0 || n < s.packets; n++ {
		if err := s.pace(bells); err != nil {
			return err
		}
		if s.priority > 0 && ctx.Err() != nil {
			return nil
		}
		f := s.next()
		if err := unix.Sendto(socket, s.frames[f], 0, to); err != nil {
			return fmt.Errorf("packet %d: %w", n, err)
		}
		s.sent[f]++
	}
	return nil
}

// pace waits for the bell on a real-time thread, and rings one now and then on an
// ordinary thread. The thread that wakes up on another CPU preempts what runs there
// at any moment; timers aren't as fine everywhere.
func (s *sender) pace(bells []int) error {
	if s.priority > 0 {
		var rings [8]byte
		_, err := unix.Read(s.bell, rings[:])
		return err
	}
	if s.random.IntN(loadWake) == 0 {
		return wake(bells[s.random.IntN(len(bells))])
	}
	return nil
}

// wake rings a bell: it adds 1 to the eventfd.
func wake(bell int) error {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, err := unix.Write(bell, one[:])
	return err
}

// next is the flow of the next packet. Ordinary threads keep to one for a while, so
// that they hit; the real-time threads don't, so that they replace what was hit in
// the moment between a comparison and the addition behind it, if they can come
// between. A replacement alone is no such moment: on an emulated CPU, whose
// interrupts come at branches only, it can't be cut in two.
func (s *sender) next() int {
	if s.priority > 0 || s.random.IntN(loadRun) == 0 {
		s.flow = s.random.IntN(loadFlows)
	}
	return s.flow
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
