package capture

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// The kernel counts what the hook saw apart from flows. So what gets lost between
// the program and an epoch's books shows, to the byte: here a slot of the cache
// that nobody reads, and records of the ring that nobody books.
func TestWhatIsLostIsUnaccounted(t *testing.T) {
	for name, lose := range map[string]func(*Capture) epoch.Count{
		"nothing": func(*Capture) epoch.Count { return epoch.Count{} },
		"a slot of the cache": func(c *Capture) epoch.Count {
			for i := range c.kernel.slots {
				if slot := &c.kernel.slots[i]; slot.Packets != 0 {
					lost := epoch.Count{Packets: slot.Packets, Bytes: slot.Bytes}
					slot.Packets = 0
					return lost
				}
			}
			return epoch.Count{}
		},
		"the ring": func(c *Capture) (lost epoch.Count) {
			c.kernel.ring.drain(func(slot *bpf.CaptureSlot) {
				lost.Add(epoch.Count{Packets: slot.Packets, Bytes: slot.Bytes})
			})
			return lost
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCapture(t, 4<<20)
			r := rand.New(rand.NewPCG(1, 1))
			for range 20_000 {
				c.run(t, udpPacket(uint32(r.IntN(10_000)), 20+r.IntN(100)).data)
			}
			lost := lose(c)
			if (lost == epoch.Count{}) != (name == "nothing") {
				t.Fatalf("%v were lost", lost)
			}
			err := c.endEpoch(func(e *epoch.Epoch, _ time.Duration) {
				for _, d := range flow.Dimensions {
					if got := e.Unaccounted(d); got != lost {
						t.Errorf("%v unaccounted by %s, lost %v", got, d, lost)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
