package capture

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/testutil"
)

// newTestCapture loads the program and attaches it to nothing: packets come by run.
func newTestCapture(t testing.TB, memory uint64) *Capture {
	t.Helper()
	testutil.RequireRoot(t)
	c, err := New(Config{Epoch: time.Second, Memory: memory, Host: "test"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// run hands a packet to the program, as if it had come in.
func (c *Capture) run(t *testing.T, packet []byte) {
	t.Helper()
	verdict, err := c.kernel.objects.CaptureIngress.Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		t.Fatalf("run a packet of %d bytes: %v", len(packet), err)
	}
	if next := ^uint32(0); verdict != next {
		t.Fatalf("verdict %d, want %d: let the next program decide", verdict, next)
	}
}

// epoch ends the epoch and returns a copy of what was seen in it.
func (c *Capture) epoch(t *testing.T) *epoch.Epoch {
	t.Helper()
	var seen *epoch.Epoch
	err := c.endEpoch(func(e *epoch.Epoch, _ time.Duration) {
		encoded, err := epoch.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := epoch.DecodeBatch(epoch.EncodeBatch([16]byte{1}, 1, 1, [][]byte{encoded}))
		if err != nil {
			t.Fatalf("the epoch doesn't survive the wire: %v", err)
		}
		seen = batch.Epochs[0]
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// Many more flows than the cache has slots, with the ring buffer drained, and not
// drained for so long that it fills: every packet is under a flow or in the
// remainder.
func TestNothingIsLostWhenEverythingIsFull(t *testing.T) {
	for name, drained := range map[string]bool{"ring drained": true, "ring full": false} {
		t.Run(name, func(t *testing.T) {
			c := newTestCapture(t, 4<<20)
			r := rand.New(rand.NewPCG(1, 1))
			var want epoch.Count
			flows := map[flow.Key]uint64{}
			for i := range 60_000 {
				p := udpPacket(uint32(r.IntN(30_000)), 20+r.IntN(100))
				want.Add(epoch.Count{Packets: 1, Bytes: uint64(len(p.data))})
				flows[p.key] += uint64(len(p.data))
				c.run(t, p.data)
				if drained && i%1000 == 0 {
					c.kernel.ring.drain(c.book)
				}
			}
			e := c.epoch(t)
			if got := e.Total(); got != want {
				t.Errorf("the hook saw %v, sent %v", got, want)
			}
			remainder := e.Remainder().Packets
			if drained != (remainder == 0) {
				t.Errorf("remainder of %d packets", remainder)
			}
			if e.Folded(flow.Source).Packets == 0 && drained {
				t.Error("nothing was folded: the test's table isn't too small")
			}
			for _, f := range e.Flows {
				if f.Bytes > flows[f.Key] {
					t.Fatalf("flow %v counts %d bytes, sent %d", f.Key, f.Bytes, flows[f.Key])
				}
			}
			if next := c.epoch(t); next.Total() != (epoch.Count{}) || len(next.Flows) != 0 {
				t.Errorf("the next epoch has %v in %d flows, want nothing", next.Total(), len(next.Flows))
			}
		})
	}
}

// With room for all, each flow's count is exact, over several epochs.
func TestFlowsAreExact(t *testing.T) {
	c := newTestCapture(t, 64<<20)
	r := rand.New(rand.NewPCG(2, 2))
	for range 3 {
		want := map[flow.Key]epoch.Count{}
		for range 20_000 {
			p := udpPacket(uint32(r.ExpFloat64()*500), 20+r.IntN(100))
			count := want[p.key]
			count.Add(epoch.Count{Packets: 1, Bytes: uint64(len(p.data))})
			want[p.key] = count
			c.run(t, p.data)
		}
		e := c.epoch(t)
		if len(e.Flows) != len(want) {
			t.Errorf("%d flows, sent %d", len(e.Flows), len(want))
		}
		for _, f := range e.Flows {
			if f.Count != want[f.Key] {
				t.Fatalf("flow %v counts %v, sent %v", f.Key, f.Count, want[f.Key])
			}
		}
	}
}
