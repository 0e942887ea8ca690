package capture

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// ring reads the ring buffer of evictions in place: neither a system call nor a
// copy a record. The layout is that of kernel/bpf/ringbuf.c: a page with the
// consumer's position, a page with the producer's, then the data twice in a row,
// so that a record never wraps around. Of the second copy only what a record may reach
// into is mapped: the process's resident memory would count it as memory of its own.
type ring struct {
	consumer, producer *atomic.Uint64 // positions in bytes, ever increasing
	data               []byte
	mask               uint64
	mapped             [][]byte

	position uint64 // up to which records are read
	polled   uint64 // position at the last call of idle
	held     *held  // nil: what is read is given back at once

	taken uint64 // slots, ever
	peak  uint64 // most bytes that waited, since somebody set it to 0
}

// held keeps what is read in the ring until the epoch that it is in is committed, so
// that a run that is killed leaves it to the next one. Records of the next epoch are
// among those of one that ends: so it is kept by half what is committed.
type held struct {
	taken [2]uint64 // records of the half before this position are committed
	first [2]uint64 // position of the first that isn't; notRead: none was read
}

const notRead = ^uint64(0)

// hold keeps records from now on; taken is what an earlier run committed.
func (r *ring) hold(taken [2]uint64) {
	r.held = &held{taken: taken, first: [2]uint64{notRead, notRead}}
}

// see says whether a record is new, and notes the first of its half.
func (h *held) see(half uint8, position uint64) bool {
	if position < h.taken[half&1] {
		return false
	}
	h.first[half&1] = min(h.first[half&1], position)
	return true
}

// afterCommit returns the state of the ring behind the epoch of a half, all of whose
// records are read.
func (r *ring) afterCommit(half fold.Half) (consumer uint64, taken [2]uint64) {
	taken = r.held.taken
	taken[half] = r.position
	return min(r.position, r.held.first[1-half]), taken
}

// release gives back what is committed.
func (r *ring) release(half fold.Half) {
	if r.held == nil {
		return
	}
	consumer, taken := r.afterCommit(half)
	r.held.taken = taken
	r.held.first[half] = notRead
	r.consumer.Store(consumer)
}

// size is that of the data, in bytes.
func (r *ring) size() uint64 { return r.mask + 1 }

// crowded says whether what is held takes so much of the ring that the epoch had
// better end.
func (r *ring) crowded() bool {
	return r.held != nil && r.producer.Load()-r.consumer.Load() > r.size()/2
}

// idleShare is the part of the ring that an idle one gets less than from one poll to the
// next: a thousand evictions, of 16 MiB.
const idleShare = 256

// idle says whether next to nothing came since the last call.
func (r *ring) idle() bool {
	came := r.position - r.polled
	r.polled = r.position
	return came < r.size()/idleShare
}

// halfFull is how long evictions at a rate a second take to fill half of the ring.
func (r *ring) halfFull(rate int) time.Duration {
	evictions := r.size() / 2 / uint64(unsafe.Sizeof(bpf.CaptureSlot{}))
	return time.Duration(evictions) * time.Second / time.Duration(rate)
}

// A record is preceded by its length, whose top bits the kernel uses, and a word
// that only the kernel needs (include/uapi/linux/bpf.h, BPF_RINGBUF_*).
const (
	ringHeader     = 8
	ringBusy       = unix.BPF_RINGBUF_BUSY_BIT
	ringDiscard    = unix.BPF_RINGBUF_DISCARD_BIT
	ringLengthMask = ringDiscard - 1
)

// overhang is more than a record reaches beyond the end of the data, and as much as a
// page has on any architecture.
const overhang = 64 << 10

// openRing maps a ring buffer whose records are of slots.
func openRing(m *ebpf.Map) (*ring, error) {
	page, size := os.Getpagesize(), int(m.MaxEntries())
	consumer, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the ring buffer's consumer page: %w", err)
	}
	rest, err := unix.Mmap(m.FD(), int64(page), page+size+min(size, overhang), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the ring buffer: %w", err), unix.Munmap(consumer))
	}
	r := &ring{
		consumer: (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(consumer))),
		producer: (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(rest))),
		data:     rest[page:],
		mask:     uint64(size) - 1,
		mapped:   [][]byte{consumer, rest},
	}
	r.position = r.consumer.Load()
	return r, nil
}

// drain hands each evicted slot to take, up to what had been produced when it began.
// A slot is the kernel's memory and valid only during the call.
func (r *ring) drain(take func(*bpf.CaptureSlot)) { r.drainTo(r.produced(), take) }

// produced returns the producer's position, and notes how much waits.
func (r *ring) produced() uint64 {
	position := r.producer.Load()
	r.peak = max(r.peak, position-r.consumer.Load())
	return position
}

// Waiting for a record that a CPU is still writing takes less than a microsecond,
// unless a hypervisor has just taken the CPU away.
const (
	busyWait  = 20 * time.Microsecond
	busyLimit = 100 * time.Millisecond
)

// drainAll is drain, but waits for records that are still being written: behind
// one of the epoch that has begun there may be others of the one that ends.
func (r *ring) drainAll(take func(*bpf.CaptureSlot)) {
	end, limit := r.produced(), time.Now().Add(busyLimit)
	for !r.drainTo(end, take) && time.Now().Before(limit) {
		time.Sleep(busyWait)
	}
}

// drainTo takes the records before a position and says whether these were all:
// it stops at one that is still being written.
func (r *ring) drainTo(end uint64, take func(*bpf.CaptureSlot)) bool {
	position := r.position
	for position < end {
		length := (*atomic.Uint32)(unsafe.Pointer(&r.data[position&r.mask])).Load()
		if length&ringBusy != 0 {
			break
		}
		if length&ringDiscard == 0 {
			r.takeRecord(position, length, take)
		}
		position += (ringHeader + uint64(length&ringLengthMask) + 7) &^ 7
	}
	r.position = position
	if r.held == nil {
		r.consumer.Store(position)
	}
	return position >= end
}

// takeRecord hands over the slots of a record. All of them are of one half, and the
// first is never empty.
func (r *ring) takeRecord(position uint64, length uint32, take func(*bpf.CaptureSlot)) {
	slots := r.record(position, length)
	if r.held != nil && !r.held.see(slots[0].Key.Half, position) {
		return
	}
	for i := range slots {
		if slots[i].Packets != 0 {
			take(&slots[i])
			r.taken++
		}
	}
}

// record returns the slots of the record at a position; those without packets are
// empty.
func (r *ring) record(position uint64, length uint32) []bpf.CaptureSlot {
	first := (*bpf.CaptureSlot)(unsafe.Pointer(&r.data[position&r.mask+ringHeader]))
	return unsafe.Slice(first, length/uint32(unsafe.Sizeof(*first)))
}

func (r *ring) close() error {
	var all []error
	for _, memory := range r.mapped {
		all = append(all, unix.Munmap(memory))
	}
	return errors.Join(all...)
}
