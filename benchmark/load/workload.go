package load

import (
	"encoding/binary"
	"math/rand/v2"
)

// Workload says to which flow each packet belongs.
type Workload struct {
	Name  string
	Flows int // 0: every packet is a new flow
	// draws returns a function that draws the number of a packet's flow.
	draws func(r *rand.Rand) func() uint64
}

// zipfFlows is over how many flows the Zipf distribution goes.
const zipfFlows = 100_000

// Workloads are those that are measured.
func Workloads() []Workload {
	return []Workload{
		Uniform("1 flow", 1),
		Uniform("1,000 flows", 1000),
		Uniform("100,000 flows", 100_000),
		{Name: "every packet a new flow"},
		Zipf("Zipf(1.1) of 100,000", zipfFlows, 1.1),
	}
}

// Uniform takes each flow with the same probability.
func Uniform(name string, flows int) Workload {
	return Workload{name, flows, func(r *rand.Rand) func() uint64 {
		return func() uint64 { return r.Uint64N(uint64(flows)) }
	}}
}

// Zipf gives the k-th flow, from 1 on, a probability proportional to k^-exponent.
func Zipf(name string, flows int, exponent float64) Workload {
	return Workload{name, flows, func(r *rand.Rand) func() uint64 {
		return rand.NewZipf(r, exponent, 1, uint64(flows-1)).Uint64
	}}
}

// orderLen is after how many packets the order of packets repeats itself.
const orderLen = 1 << 19

// Source numbers the flow of each packet. Its order is the same in every run, and
// drawn in advance, so that sending costs the same whatever the workload. With the zero
// value every packet is a new flow.
type Source struct {
	order    []uint32 // empty: every packet is a new flow
	position uint64
}

// NewSource begins a workload anew.
func NewSource(w Workload) *Source {
	s := &Source{}
	if w.Flows == 0 {
		return s
	}
	draw := w.draws(rand.New(rand.NewPCG(1, uint64(w.Flows))))
	s.order = make([]uint32, orderLen)
	for i := range s.order {
		s.order[i] = uint32(draw())
	}
	return s
}

func (s *Source) next() uint64 {
	n := s.position
	s.position++
	if len(s.order) == 0 {
		return n
	}
	return uint64(s.order[n%orderLen])
}

// Frames are UDP over IPv4 in Ethernet, 64 bytes with the frame check sequence
// that a real card would add.
const (
	frameLen            = 60
	sourceOffset        = 14 + 12
	sourcePortOffset    = 14 + 20
	destinationOffset   = 14 + 16
	destinationNetwork  = 10
	destinationPort     = 443
	lengthOffset        = 14 + 20 + 4
	destinationPortByte = 14 + 20 + 2
)

// frame is a packet without a flow yet.
func frame() (f [frameLen]byte) {
	copy(f[:], []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00})
	copy(f[14:], []byte{0x45, 0, 0, frameLen - 14, 0, 0, 0x40, 0, 64, 17, 0, 0, destinationNetwork})
	binary.BigEndian.PutUint16(f[destinationPortByte:], destinationPort)
	binary.BigEndian.PutUint16(f[lengthOffset:], frameLen-14-20)
	return f
}

// setFlow writes the addresses and the source port of a flow. Different numbers
// give different flows: mix is a bijection, and all of its bits are used.
func setFlow(f *[frameLen]byte, number uint64) {
	x := mix(number)
	binary.BigEndian.PutUint32(f[sourceOffset:], destinationNetwork<<24|uint32(x)>>8)
	binary.BigEndian.PutUint32(f[destinationOffset:], destinationNetwork<<24|uint32(x>>40))
	binary.BigEndian.PutUint16(f[sourcePortOffset:], uint16(x>>24))
}

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable
// pseudorandom number generators", 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
