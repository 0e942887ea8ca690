package traffic

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchLen is how many packets one system call sends at most.
const batchLen = 64

// sendBuffer bounds, in bytes as the kernel accounts them, the packets that
// the socket has on their way. Between namespaces a packet goes through the
// CPU's backlog (net.core.netdev_max_backlog, 1000 packets), and what doesn't
// fit is dropped there: with this bound the sender sleeps before it can fill.
const sendBuffer = 64 << 10

// zeros is the data of every packet.
var zeros [MaxFrameSize]byte

// message is struct mmsghdr of sendmmsg(2).
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// batch holds frames and the structures by which the kernel reads them.
type batch struct {
	socket    int
	frames    [batchLen]frame
	addresses [batchLen]unix.RawSockaddrLinklayer
	parts     [batchLen][2]unix.Iovec
	messages  [batchLen]message
}

// openBatch opens a packet socket in the calling thread's namespace. It
// receives nothing (protocol 0), and its packets pass the egress hooks and the
// queueing discipline as any others (no PACKET_QDISC_BYPASS).
func openBatch() (*batch, error) {
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket (needs CAP_NET_RAW): %w", err)
	}
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer); err != nil {
		unix.Close(socket)
		return nil, fmt.Errorf("set the packet socket's send buffer: %w", err)
	}
	b := &batch{socket: socket}
	for i := range b.messages {
		b.parts[i][0].Base = &b.frames[i].headers[0]
		b.parts[i][1].Base = &zeros[0]
		b.addresses[i].Family = unix.AF_PACKET
		b.addresses[i].Halen = 6
		header := &b.messages[i].header
		header.Name = (*byte)(unsafe.Pointer(&b.addresses[i]))
		header.Namelen = unix.SizeofSockaddrLinklayer
		header.Iov = &b.parts[i][0]
		header.SetIovlen(2)
	}
	return b, nil
}

func (b *batch) close() { unix.Close(b.socket) }

// prepare makes the frame at the index ready for sending to the hop, once it
// is written.
func (b *batch) prepare(i int, to *hop) {
	f := &b.frames[i]
	b.parts[i][0].SetLen(f.length)
	b.parts[i][1].SetLen(f.data)
	address := &b.addresses[i]
	address.Ifindex = int32(to.device)
	address.Protocol = networkOrder(binary.BigEndian.Uint16(f.headers[12:14]))
	copy(address.Addr[:6], to.destination[:])
}

// send offers the frames from one index to another to the kernel and returns
// how many it took. An error is about the first that it didn't take.
func (b *batch) send(from, to int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(b.socket),
		uintptr(unsafe.Pointer(&b.messages[from])), uintptr(to-from), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// networkOrder returns the number whose bytes in memory are v's in network
// order.
func networkOrder(v uint16) uint16 {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		return v
	}
	return bits.ReverseBytes16(v)
}
