package capture

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// loopback is the device that Program.Run says packets are from.
const loopback = uint32(1)

// Offsets in struct __sk_buff (linux/bpf.h).
const (
	skbSize    = 192
	skbWireLen = 160
	skbGSOSegs = 164
	skbGSOSize = 176
)

// context is the struct __sk_buff that Program.Run makes a sighting's socket buffer
// from. It has no VLAN tag: the kernel takes none.
func (s *sighting) context() []byte {
	c := make([]byte, skbSize)
	binary.NativeEndian.PutUint32(c[skbWireLen:], uint32(s.wireLen))
	binary.NativeEndian.PutUint32(c[skbGSOSegs:], uint32(s.gsoSegs))
	binary.NativeEndian.PutUint32(c[skbGSOSize:], uint32(s.gsoSize))
	return c
}

// observed is everything that the program counts: by observation point, and by flow
// and observation point.
type observed struct {
	points map[uint16]pointTotals
	flows  map[flowAt]epoch.Count
}

type flowAt struct {
	key   flow.Key
	point uint16
}

func newObserved() *observed {
	return &observed{points: map[uint16]pointTotals{}, flows: map[flowAt]epoch.Count{}}
}

// expect counts a verdict at a point.
func (o *observed) expect(point uint16, v verdict) {
	totals := o.points[point]
	totals.total.Add(v.count)
	for i, reason := range reasons {
		if reason == v.reason && v.reason != "" {
			totals.others[i].Add(v.count)
		}
	}
	o.points[point] = totals
	if v.reason == "" {
		at := flowAt{v.key, point}
		count := o.flows[at]
		count.Add(v.count)
		o.flows[at] = count
	}
}

// takeAll returns, and clears, all that the program counted: every counter of every
// CPU and every slot in both halves, and every record in the ring.
func (c *Capture) takeAll() *observed {
	o := newObserved()
	points := c.kernel.layout.points()
	for i := range c.kernel.counters {
		if counters := &c.kernel.counters[i]; *counters != (bpf.CaptureCounters{}) {
			totals := o.points[uint16(i%points)]
			totals.add(counters)
			o.points[uint16(i%points)] = totals
		}
	}
	clear(c.kernel.counters)
	c.kernel.ring.drain(o.addSlot)
	for i := range c.kernel.slots {
		if c.kernel.slots[i].Packets != 0 {
			o.addSlot(&c.kernel.slots[i])
			c.kernel.slots[i].Packets = 0
		}
	}
	return o
}

func (o *observed) addSlot(s *bpf.CaptureSlot) {
	at := flowAt{flow.Key{
		Source: s.Key.Source, Destination: s.Key.Destination, Protocol: s.Key.Protocol,
		SourcePort: bits.ReverseBytes16(s.Key.SourcePort), DestinationPort: bits.ReverseBytes16(s.Key.DestinationPort),
	}, s.Key.Point}
	count := o.flows[at]
	count.Add(epoch.Count{Packets: s.Packets, Bytes: s.Bytes})
	o.flows[at] = count
}

// differences lists where the program's counters aren't those expected.
func (o *observed) differences(want *observed) []string {
	var all []string
	for point := range union(o.points, want.points) {
		if got, want := o.points[point], want.points[point]; got != want {
			all = append(all, fmt.Sprintf("point %d counts %+v, want %+v", point, got, want))
		}
	}
	for at := range union(o.flows, want.flows) {
		if got, want := o.flows[at], want.flows[at]; got != want {
			all = append(all, fmt.Sprintf("flow %+v counts %v, want %v", at, got, want))
		}
	}
	return all
}

func union[K comparable, V any](a, b map[K]V) map[K]V {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// see runs the program on sightings, and compares every counter with the oracle's. It
// announces the device as one of its own for each kind, so that the points differ.
func (c *Capture) see(t testing.TB, sightings ...*sighting) {
	t.Helper()
	want := newObserved()
	for _, s := range sightings {
		number := uint32(3)
		bits := uint32(0)
		if s.layer3 {
			number, bits = 5, deviceLayer3
		}
		if err := c.kernel.objects.Devices.Put(loopback, 2*number|bits); err != nil {
			t.Fatal(err)
		}
		if err := c.runSighting(s); err != nil {
			t.Fatalf("run %d bytes %x: %v", len(s.data), s.data, err)
		}
		want.expect(uint16(2*number)+uint16(s.direction), judge(s))
	}
	if wrong := c.takeAll().differences(want); len(wrong) > 0 {
		for _, each := range wrong[:min(len(wrong), 5)] {
			t.Error(each)
		}
		t.Fatalf("%d differences from the oracle; the first of %d packets: %+v", len(wrong), len(sightings), sightings[0])
	}
}

// runSighting hands one packet to the program of its direction.
func (c *Capture) runSighting(s *sighting) error {
	program := c.kernel.objects.CaptureIngress
	if s.direction == flow.Egress {
		program = c.kernel.objects.CaptureEgress
	}
	options := &ebpf.RunOptions{Data: s.data}
	if s.gsoSize != 0 {
		options.Context = s.context()
	}
	verdict, err := program.Run(options)
	if err == nil && verdict != ^uint32(0) {
		return fmt.Errorf("verdict %d: the packet isn't left to the next program", verdict)
	}
	return err
}

// runnable makes a packet one that Program.Run takes: it refuses those without a whole
// Ethernet header, and IP packets without a whole IP header unless a tag hides them.
func runnable(data []byte, layer3 bool) []byte {
	const etherType = 12
	for len(data) < 14 {
		data = append(data, 0)
	}
	headers := map[uint16]int{0x0800: 14 + 20, 0x86dd: 14 + 40}
	if len(data) >= headers[binary.BigEndian.Uint16(data[etherType:])] {
		return data
	}
	if layer3 {
		return append(data, make([]byte, 40)...)
	}
	tagged := append([]byte{}, data[:etherType]...)
	tagged = append(tagged, 0x81, 0, 0, 7)
	return append(tagged, data[etherType:]...)
}
