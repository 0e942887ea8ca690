package capture

import (
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/traffic-monitor-agent/tma/bpf"
)

// fakeRing is a ring as the kernel lays it out, and what writes to it.
type fakeRing struct {
	ring
	consumed, produced atomic.Uint64
}

func newFakeRing(size int) *fakeRing {
	f := &fakeRing{}
	f.ring = ring{consumer: &f.consumed, producer: &f.produced, data: make([]byte, 2*size), mask: uint64(size) - 1}
	return f
}

const slotSize = uint64(unsafe.Sizeof(bpf.CaptureSlot{}))

// reserve begins a record, which is busy until commit.
func (f *fakeRing) reserve(packets uint64) (position uint64) {
	position = f.produced.Load()
	f.header(position).Store(uint32(slotSize) | ringBusy)
	f.slot(position).Packets = packets
	f.produced.Store(position + ringHeader + slotSize)
	return position
}

func (f *fakeRing) header(position uint64) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&f.data[position&f.mask]))
}

func (f *fakeRing) slot(position uint64) *bpf.CaptureSlot {
	return (*bpf.CaptureSlot)(unsafe.Pointer(&f.data[position&f.mask+ringHeader]))
}

func (f *fakeRing) commit(position uint64) { f.header(position).Store(uint32(slotSize)) }

// A record that is still being written holds up those behind it: drain leaves them
// for later, drainAll waits.
func TestDrainAllWaitsForBusyRecords(t *testing.T) {
	f := newFakeRing(1 << 12)
	var taken []uint64
	take := func(slot *bpf.CaptureSlot) { taken = append(taken, slot.Packets) }
	f.commit(f.reserve(1))
	busy := f.reserve(2)
	f.commit(f.reserve(3))
	if f.drain(take); len(taken) != 1 {
		t.Fatalf("drain took %v, want the first record alone", taken)
	}
	time.AfterFunc(5*time.Millisecond, func() { f.commit(busy) })
	if f.drainAll(take); len(taken) != 3 || taken[1] != 2 || taken[2] != 3 {
		t.Fatalf("drainAll took %v, want all three", taken)
	}
	f.reserve(4) // for ever
	if f.drainAll(take); len(taken) != 3 {
		t.Fatalf("took %v, of which one wasn't written", taken)
	}
}

// What comes in between two calls decides whether the ring is idle, not what is in it.
func TestIdleRing(t *testing.T) {
	f := newFakeRing(1 << 20)
	discard := func(*bpf.CaptureSlot) {}
	for _, test := range []struct {
		records int
		idle    bool
	}{{0, true}, {10, true}, {100, false}, {100, false}, {10, true}} {
		for range test.records {
			f.commit(f.reserve(1))
		}
		f.drain(discard)
		if got := f.idle(); got != test.idle {
			t.Errorf("%d records: idle is %v, want %v", test.records, got, test.idle)
		}
	}
	// A half of 8,192 evictions.
	if got, want := f.halfFull(1_000_000), 8192*time.Microsecond; got != want {
		t.Errorf("half full after %v, want %v", got, want)
	}
}
