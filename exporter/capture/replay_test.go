package capture

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// Replay is a Capture whose ring buffer and cache are written by the benchmark, as
// the kernel program would, so that the cost of user space can be measured alone.
type Replay struct {
	capture *Capture
	ring    *fakeRing
}

// replayPoint is where all packets are seen.
const replayPoint = 2

// NewReplay loads the program and attaches it to nothing.
func NewReplay(b *testing.B, memory uint64) *Replay {
	b.Helper()
	testutil.RequireRoot(b)
	c, err := New(Config{Epoch: time.Second, Memory: memory, Host: "replay"}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	r := &Replay{capture: c, ring: newFakeRing(c.kernel.layout.RingBytes)}
	kernels := c.kernel.ring
	c.kernel.ring = &r.ring.ring
	b.Cleanup(func() {
		c.kernel.ring = kernels
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	})
	return r
}

// ReplayedFlow is a flow of one packet of 60 bytes.
type ReplayedFlow struct {
	Source, Destination uint32
	Port                uint16
	Hash                uint64
}

func (f *ReplayedFlow) slot(half uint8) bpf.CaptureSlot {
	s := bpf.CaptureSlot{Packets: 1, Bytes: 60, Hash: f.Hash}
	s.Key.Source, s.Key.Destination = mapped(f.Source), mapped(f.Destination)
	s.Key.SourcePort, s.Key.DestinationPort, s.Key.Protocol = f.Port, 0x5000, 6
	s.Key.Half, s.Key.Point = half, replayPoint
	return s
}

func mapped(address uint32) [16]byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], address)
	return netip.AddrFrom4(b).As16()
}

// count counts what the hook saw.
func (r *Replay) count(flows int) {
	total := &r.capture.kernel.halfCounters(r.capture.half, 0)[replayPoint].Total
	total.Packets += uint64(flows)
	total.Bytes += 60 * uint64(flows)
}

// Evict puts flows into the ring.
func (r *Replay) Evict(flows []ReplayedFlow) {
	r.count(len(flows))
	for i := range flows {
		position := r.ring.reserve(1)
		*r.ring.slot(position) = flows[i].slot(uint8(r.capture.half))
		r.ring.commit(position)
	}
}

// Cache puts flows into the cache.
func (r *Replay) Cache(flows []ReplayedFlow) {
	r.count(len(flows))
	for i, slots := 0, r.capture.kernel.halfSlots(r.capture.half); i < len(flows); i++ {
		slots[i] = flows[i].slot(uint8(r.capture.half))
	}
}

// CacheSlots is how many flows the cache has room for.
func (r *Replay) CacheSlots() int { return r.capture.kernel.layout.cacheSlots() }

// Poll takes what is in the ring.
func (r *Replay) Poll() { r.capture.kernel.ring.drain(r.capture.book) }

// EndEpoch hands the epoch to the sink.
func (r *Replay) EndEpoch(b *testing.B, sink func(*epoch.Epoch, time.Duration)) {
	b.Helper()
	if err := r.capture.endEpoch(sink); err != nil {
		b.Fatal(err)
	}
}
