// Package hhh sums traffic along the hierarchy of network prefixes and finds its
// hierarchical heavy hitters.
//
// The definition is the one of Cormode, Korn, Muthukrishnan and Srivastava,
// "Finding hierarchical heavy hitters in streaming data", ACM Transactions on
// Knowledge Discovery from Data 1(4), 2008, definition 2.2: going up from the
// leaves, a prefix is heavy if its count less the counts of its heavy descendants
// (the conditioned, or discounted, count) is at least phi of the total.
//
// The sums are exact, so the result is the definition's and no approximation,
// for the masses that came in. A mass may stand at an inner prefix: traffic that
// was folded there and might belong to anything below it. So each node has an
// interval: at least what was counted at or below it less what is doubtful, at most
// that and all that was folded into its ancestors or is unknown altogether.
package hhh

import "github.com/traffic-monitor-agent/tma/internal/epoch"

// Tree is the immutable result of a Builder. Its memory is a few flat arrays a
// level, sorted by prefix: the children of a node are neighbours.
type Tree struct {
	self     epoch.Count // mass that stands at the root itself
	total    epoch.Count
	unknown  uint64
	doubtful uint64
	families [2]family // IPv4, IPv6
}

// family holds the levels of one address family, the shortest prefixes first.
type family struct {
	family   Family
	doubtful uint64 // of the whole tree
	levels   []level
}

// level is all prefixes of one length, ascending.
type level struct {
	length         int
	hi, lo         []uint64 // lo is nil where no prefix has more than 64 bits
	bytes, packets []uint64 // at and below the prefix
	inner          bool     // not the last level, where all mass stands at the prefix
	selfBytes      []uint64 // what stands at an inner prefix itself; nil if nothing does
	first          []uint32 // its first child in the next level; one more at the end
}

// Node is one prefix with its sums. Bytes and packets are those at and below it.
type Node struct {
	Prefix
	epoch.Count
	SelfBytes    uint64 // stand at the prefix itself, not at a longer one
	Lower, Upper uint64 // bytes; the truth is between them
}

// Total is the sum of all masses.
func (t *Tree) Total() epoch.Count { return t.total }

// Root returns the node of everything.
func (t *Tree) Root() Node {
	return Node{
		Count: t.total, SelfBytes: t.self.Bytes,
		Lower: t.total.Bytes - min(t.total.Bytes, t.doubtful), Upper: t.total.Bytes + t.unknown,
	}
}

// Len returns the number of nodes, without the root.
func (t *Tree) Len() int {
	n := 0
	for f := range t.families {
		for l := range t.families[f].levels {
			n += len(t.families[f].levels[l].hi)
		}
	}
	return n
}

// node returns node i of a level. above is the mass that stands at its proper
// ancestors, with what is unknown.
func (f *family) node(l, i int, above uint64) Node {
	v := &f.levels[l]
	p := Prefix{hi: v.hi[i], family: f.family, length: uint8(v.length)}
	if v.lo != nil {
		p.lo = v.lo[i]
	}
	return Node{
		Prefix: p, Count: epoch.Count{Packets: v.packets[i], Bytes: v.bytes[i]}, SelfBytes: v.self(i),
		Lower: v.bytes[i] - min(v.bytes[i], f.doubtful), Upper: v.bytes[i] + above,
	}
}

// self returns the bytes that stand at node i itself.
func (v *level) self(i int) uint64 {
	switch {
	case !v.inner:
		return v.bytes[i]
	case v.selfBytes == nil:
		return 0
	}
	return v.selfBytes[i]
}

// children returns the range of node i's children in the next level.
func (v *level) children(i int) (from, to int) {
	if !v.inner {
		return 0, 0
	}
	return int(v.first[i]), int(v.first[i+1])
}
