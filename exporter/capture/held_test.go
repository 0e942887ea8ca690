package capture

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// heldRing is a ring buffer in ordinary memory, large enough never to wrap around.
type heldRing struct {
	data               []byte
	consumer, producer atomic.Uint64
}

const heldSlotBytes = 64

func newHeldRing(records int) *heldRing {
	size := 1
	for size < records*(ringHeader+heldSlotBytes) {
		size *= 2
	}
	return &heldRing{data: make([]byte, size+heldSlotBytes)}
}

// produce writes a record of a half with a number as its packets.
func (f *heldRing) produce(half fold.Half, number uint64) {
	at := f.producer.Load()
	binary.NativeEndian.PutUint32(f.data[at:], heldSlotBytes)
	slot := f.data[at+ringHeader:]
	slot[37] = byte(half)
	binary.NativeEndian.PutUint64(slot[40:], number)
	f.producer.Store(at + ringHeader + heldSlotBytes)
}

// open is what a run does that finds the ring.
func (f *heldRing) open(taken [2]uint64) *ring {
	r := &ring{consumer: &f.consumer, producer: &f.producer, data: f.data, mask: ^uint64(0), position: f.consumer.Load()}
	r.hold(taken)
	return r
}

// Records of two halves, in any order around the end of an epoch, with runs that end at
// any time: each record is in one committed epoch of its half, as the list of all says.
func TestHeldRecordsAreCommittedOnce(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		f := newHeldRing(400)
		var taken [2]uint64
		var want, got [2][]uint64 // by half, committed
		var pending [2][]uint64   // by half, read in this run
		r := f.open(taken)
		read := func() {
			r.drainAll(func(s *bpf.CaptureSlot) { pending[s.Key.Half] = append(pending[s.Key.Half], s.Packets) })
		}
		half, number := fold.Half(0), uint64(0)
		produce := func(late int) {
			h := half
			if random.IntN(10) < late {
				h = 1 - half
			}
			number++
			f.produce(h, number)
			want[h] = append(want[h], number)
		}
		for range 10 {
			for range random.IntN(15) {
				produce(0)
				if random.IntN(4) == 0 {
					read()
				}
			}
			for range random.IntN(15) {
				produce(5) // during the swap
				if random.IntN(4) == 0 {
					read()
				}
			}
			if random.IntN(3) == 0 { // killed before the commit
				r, pending = f.open(taken), [2][]uint64{}
			}
			read()
			consumer, after := r.afterCommit(half)
			got[half] = append(got[half], pending[half]...)
			pending[half] = nil
			taken = after
			if random.IntN(3) == 0 { // killed right behind it
				f.consumer.Store(consumer)
				r, pending = f.open(taken), [2][]uint64{}
			} else {
				r.release(half)
			}
			half = 1 - half
		}
		for range 2 {
			read()
			got[half] = append(got[half], pending[half]...)
			pending[half] = nil
			r.release(half)
			half = 1 - half
		}
		for h := range want {
			if !slices.Equal(got[h], want[h]) {
				t.Fatalf("of half %d the records %v are committed, want %v", h, got[h], want[h])
			}
		}
		if f.consumer.Load() != f.producer.Load() {
			t.Fatalf("%d bytes aren't given back", f.producer.Load()-f.consumer.Load())
		}
	}
}
