package capture

import (
	"math/rand/v2"
	"testing"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// smallMemory makes a cache and counters small enough to be read after each packet.
const smallMemory = 1 << 20

// largest is the most bytes that Program.Run takes: a page less its headroom.
const largest = 3500

// FuzzParse gives arbitrary bytes to the kernel's program and to the oracle and
// compares every counter. `go test` runs the seeds: every crafted packet whole, cut
// after each byte, and as a packet of segmentation offload.
//
//	go test -run=- -fuzz=FuzzParse -fuzztime=1m ./exporter/capture
func FuzzParse(f *testing.F) {
	for _, data := range craftedPackets() {
		for n := range len(data) + 1 {
			f.Add(data[:n], n%2 == 0, false, uint16(0), uint16(0))
		}
		f.Add(data, false, false, uint16(10), uint16(0))
		f.Add(data, true, false, uint16(10), uint16(3))
		if len(data) > 14 {
			f.Add(data[14:], false, true, uint16(0), uint16(0))
		}
	}
	c := newTestCapture(f, smallMemory)
	f.Fuzz(func(t *testing.T, data []byte, egress, layer3 bool, gsoSize, gsoSegs uint16) {
		c.see(t, arbitrary(data, egress, layer3, gsoSize, gsoSegs))
	})
}

// arbitrary makes a sighting of any input.
func arbitrary(data []byte, egress, layer3 bool, gsoSize, gsoSegs uint16) *sighting {
	data = runnable(append([]byte{}, data[:min(len(data), largest)]...), layer3)
	s := &sighting{data: data, layer3: layer3, gsoSize: int(gsoSize)}
	if egress {
		s.direction = flow.Egress
	}
	if gsoSize != 0 {
		s.gsoSegs = int(gsoSegs)
		s.wireLen = len(data) + int(gsoSegs%1000)
	}
	s.protocol = runProtocol(data)
	return s
}

// The kernel's program gives the fuzzer no coverage to be guided by, and the fuzzer's
// machinery costs a hundred times what a run does. So most of the work is done by
// mutating crafted packets at random: soak makes it millions.
func TestMutatedPackets(t *testing.T) {
	c := newTestCapture(t, smallMemory)
	r := rand.New(rand.NewPCG(3, 3))
	packets := craftedPackets()
	for range soak(20_000, 5_000_000) {
		data := mutate(r, packets[r.IntN(len(packets))], packets[r.IntN(len(packets))])
		gsoSize, gsoSegs := uint16(0), uint16(0)
		if r.IntN(4) == 0 {
			gsoSize, gsoSegs = uint16(1+r.IntN(1500)), uint16(r.IntN(50))
		}
		c.see(t, arbitrary(data, r.IntN(2) == 0, r.IntN(4) == 0, gsoSize, gsoSegs))
	}
}

// mutate changes some bytes of a packet, most of them where headers are, cuts it, or
// grafts the end of another one onto it.
func mutate(r *rand.Rand, packet, other []byte) []byte {
	data := append([]byte{}, packet...)
	switch r.IntN(4) {
	case 0:
		data = data[:r.IntN(len(data)+1)]
	case 1:
		data = append(data[:r.IntN(len(data)+1)], other[r.IntN(len(other)):]...)
	}
	for range r.IntN(4) {
		if len(data) > 0 {
			at := min(r.IntN(len(data)), r.IntN(len(data)))
			data[at] = []byte{byte(r.Uint32()), 0, 0xff, 4, 6, 17, 44, 51, 60, data[at] + 1, data[at] - 1}[r.IntN(11)]
		}
	}
	return data
}
