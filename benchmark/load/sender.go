// Package load sends packets of flows as fast as one CPU can, over a wire that it makes
// for what is to be measured.
package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchLen = 64 // packets a system call
	// sendBuffer bounds the packets on their way, in bytes as the kernel accounts
	// them, so that the backlog of the receiving side never overflows.
	sendBuffer = 64 << 10
)

// message is struct mmsghdr of sendmmsg(2).
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// Sender writes frames to a device. Its memory is that of one batch.
type Sender struct {
	socket   int
	frames   [batchLen][frameLen]byte
	parts    [batchLen]unix.Iovec
	messages [batchLen]message
	pinner   runtime.Pinner
}

// newSender opens a packet socket on the device. It passes the queueing discipline
// by, since what is measured is on the other side.
func newSender(device *net.Interface) (*Sender, error) {
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	s := &Sender{socket: socket}
	s.pinner.Pin(s)
	for i := range s.messages {
		s.frames[i] = frame()
		s.parts[i] = unix.Iovec{Base: &s.frames[i][0]}
		s.parts[i].SetLen(frameLen)
		s.messages[i].header.Iov = &s.parts[i]
		s.messages[i].header.SetIovlen(1)
	}
	bound := unix.SockaddrLinklayer{Ifindex: device.Index, Protocol: binary.NativeEndian.Uint16([]byte{0x08, 0x00})}
	err = errors.Join(
		unix.SetsockoptInt(socket, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
		unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer),
		unix.Bind(socket, &bound),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up the packet socket: %w", err), s.close())
	}
	return s, nil
}

func (s *Sender) close() error {
	s.pinner.Unpin()
	return unix.Close(s.socket)
}

// Send sends packets of the source's flows, evenly at the rate (packets a second)
// or, if that isn't possible, more slowly.
func (s *Sender) Send(from *Source, packets, rate int) error {
	start := time.Now()
	for sent := 0; sent < packets; {
		due := time.Duration(float64(sent) / float64(rate) * float64(time.Second))
		for time.Since(start) < due { // sleeping would be too coarse
		}
		n := min(batchLen, packets-sent)
		for i := range n {
			setFlow(&s.frames[i], from.next())
		}
		if err := s.flush(n); err != nil {
			return err
		}
		sent += n
	}
	return nil
}

// flush hands the first frames to the kernel.
func (s *Sender) flush(n int) error {
	for first := 0; first < n; {
		done, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.socket),
			uintptr(unsafe.Pointer(&s.messages[first])), uintptr(n-first), 0, 0, 0)
		if errno != 0 && errno != unix.EINTR && errno != unix.ENOBUFS {
			return fmt.Errorf("send: %w", errno)
		}
		if errno == 0 {
			first += int(done)
		}
	}
	return nil
}
