// Package epoch is what a host saw in one epoch, in memory and on the wire.
//
// Bytes and packets are conserved: over all devices
//
//	total = flows + folded + remainder + others + duplicates
//
// where folded is the sum of either dimension's ladders. Unaccounted is the
// difference of the two sides.
package epoch

import (
	"net/netip"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/cms"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// Epoch is what one host saw between Start and End.
type Epoch struct {
	Host       string
	Sequence   uint64 // of one run of an exporter, from 1 on
	Start, End time.Time
	Devices    []Device
	Flows      []Flow
	Ladders    []Ladder
	Sketches   []Sketch
	// LocalNetworks are the host's own addresses, and the networks behind its
	// interfaces for which it answers.
	LocalNetworks []netip.Prefix
	// Doubtful is what of the folded traffic may be counted already, before or at
	// another device, because the host forwards and has forgotten which device
	// counted the flow. Flows have what is doubtful of theirs themselves.
	Doubtful Count
	// Hidden is what of all duplicates may be traffic that is counted nowhere,
	// because the device that counts the flow hasn't seen as much.
	Hidden Count
	// FoldedFlows isn't sent. It belongs to the ledger that closed the epoch and is
	// valid as long as that says; nil if there is none.
	FoldedFlows *FoldedFlows
	// Pairs is a sample of who talked to whom, folded flows included; nil if there is
	// none. It isn't sent: what is small enough of it is SampledPairs.
	Pairs *pairs.Sample
	// SampledPairs is such a sample under the key of the sketches, without which it
	// isn't sent; nil if there is none.
	SampledPairs *pairs.Thinned
}

// FoldedFlows is how many bytes of flows were folded, by flow: a Count-Min sketch of
// hashes under Seed.
type FoldedFlows struct {
	*cms.Sketch
	Seed *flow.HashSeed
}

// Estimate returns at least what was folded of a flow.
func (f *FoldedFlows) Estimate(key *flow.Key) uint64 { return f.Sketch.Estimate(key.Hash(f.Seed)) }

// Count is a number of packets and of bytes, as on the wire.
type Count struct{ Packets, Bytes uint64 }

// Add adds other to c.
func (c *Count) Add(other Count) {
	c.Packets += other.Packets
	c.Bytes += other.Bytes
}

// Sub subtracts other from c; both wrap around.
func (c *Count) Sub(other Count) {
	c.Packets -= other.Packets
	c.Bytes -= other.Bytes
}

// Device is what a device saw in one direction.
type Device struct {
	Name      string
	Direction flow.Direction
	Total     Count // all that the hook saw
	Duplicate Count // counted at another device of the host
	Remainder Count // the ring buffer was full
	Others    []Reason
}

// Reason counts packets that aren't under a 5-tuple.
type Reason struct {
	Reason string
	Count
}

// Flow is the count of one 5-tuple, at the one device where the host counts it.
type Flow struct {
	flow.Key
	Direction flow.Direction
	Count
	// Error is how many bytes of the flow may have been folded in the same epoch, or
	// be among its hidden ones: at least as many as were.
	Error uint64
	// Doubtful is how many of the flow's bytes may be counted already.
	Doubtful uint64
}

// Doubts is what of the flow may be counted already; no packet is without a byte.
func (f *Flow) Doubts() Count { return Count{min(f.Packets, f.Doubtful), f.Doubtful} }

// Class says which host answers for traffic when several monitored hosts see it.
type Class uint8

// The classes, numbered as on the wire.
const (
	// Own is counted at this host.
	Own Class = iota
	// FleetSource is counted at the host of its source.
	FleetSource
	// FleetDestination is counted at the host of its destination; its source
	// isn't in the fleet.
	FleetDestination
	classes
)

// Ladder is traffic that gave up its flow, by prefix of one dimension. Every
// byte is under exactly one entry, the longest prefix that had room.
type Ladder struct {
	Dimension flow.Dimension
	Class     Class
	Entries   []Prefix
}

// Prefix is what was folded into a prefix, that of longer entries not included.
type Prefix struct {
	netip.Prefix
	Count
}

// The things that are counted distinctly, each by one Sketch.
const (
	OfFlows            = "flows"
	OfSources          = "sources"
	OfDestinations     = "destinations"
	OfDestinationPorts = "destination_ports"
)

// Sketch is the HyperLogLog of the epoch's flows, folded ones included.
type Sketch struct {
	Of             string
	KeyFingerprint uint64 // of the siphash.Key under which items were hashed
	HLL            *hll.Sketch
}

// Total is what all devices saw.
func (e *Epoch) Total() Count {
	var sum Count
	for i := range e.Devices {
		sum.Add(e.Devices[i].Total)
	}
	return sum
}

// Counted is what all flows have.
func (e *Epoch) Counted() Count {
	var sum Count
	for i := range e.Flows {
		sum.Add(e.Flows[i].Count)
	}
	return sum
}

// Folded is what one dimension's ladders hold.
func (e *Epoch) Folded(d flow.Dimension) Count {
	var sum Count
	for i := range e.Ladders {
		if e.Ladders[i].Dimension != d {
			continue
		}
		for j := range e.Ladders[i].Entries {
			sum.Add(e.Ladders[i].Entries[j].Count)
		}
	}
	return sum
}

// Remainder is what was seen by all devices while the ring buffer was full: its
// flows are unknown.
func (e *Epoch) Remainder() Count {
	var sum Count
	for i := range e.Devices {
		sum.Add(e.Devices[i].Remainder)
	}
	return sum
}

// Duplicates is what all devices saw that is counted at another one of the host.
func (e *Epoch) Duplicates() Count {
	var sum Count
	for i := range e.Devices {
		sum.Add(e.Devices[i].Duplicate)
	}
	return sum
}

// Unaccounted is the total less everything that is accounted for, taking the
// folded traffic from one dimension's ladders: zero, or bytes were lost. Both
// numbers wrap around when more was accounted for than seen.
func (e *Epoch) Unaccounted(d flow.Dimension) Count { return e.UnaccountedBeside(e.Counted(), d) }

// UnaccountedBeside is Unaccounted where what Counted returns is known already.
func (e *Epoch) UnaccountedBeside(flows Count, d flow.Dimension) Count {
	left := e.Total()
	left.Sub(e.Folded(d))
	left.Sub(flows)
	for i := range e.Devices {
		device := &e.Devices[i]
		left.Sub(device.Duplicate)
		left.Sub(device.Remainder)
		for _, other := range device.Others {
			left.Sub(other.Count)
		}
	}
	return left
}
