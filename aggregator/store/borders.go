package store

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Epochs of different hosts begin and end at different times. Where an exporter
// starts or dies in the middle of another's epoch, it has counted a part of what the
// other counted in that epoch, and which packets these are nobody knows. But they
// are at most as many as it has of the flow in its own epochs at that time: mostly
// none, and then all is certain. So the other counts its bytes by the part of time
// that is its alone, and what of them may be counted twice, or nowhere, is said.

// share is what a host counts of a flow that it saw in an epoch.
type share struct {
	epoch.Count
	doubtful  uint64      // bytes of it that may be there twice
	uncertain epoch.Count // isn't in it, and may be nowhere
}

// rest returns what is left of a flow for one that others have counted before, as
// far as they cover the epoch's time.
func (r *resolution) rest(e *epoch.Epoch, f *epoch.Flow, owners []*exporter) share {
	s := spanOf(e)
	var theirs uint64 // at most
	var covered time.Duration
	for _, owner := range owners {
		theirs = saturated(theirs, r.most(owner, s, &f.Key))
		covered += owner.covered(s)
	}
	least := f.Bytes - min(f.Bytes, theirs)
	length := max(1, s.to.Sub(s.from))
	guess := scale(f.Bytes, uint64(length-min(length, covered)), uint64(length))
	bytes := max(least, guess)
	count := epoch.Count{Packets: scale(f.Packets, bytes, f.Bytes), Bytes: bytes}
	left := f.Count
	left.Sub(count)
	return share{count, min(bytes, bytes-least+f.Doubtful), left}
}

func saturated(a, b uint64) uint64 {
	if sum, carry := bits.Add64(a, b, 0); carry == 0 {
		return sum
	}
	return math.MaxUint64
}

// scale returns n * part / whole, rounded down; part is at most whole.
func scale(n, part, whole uint64) uint64 {
	if part >= whole {
		return n
	}
	hi, lo := bits.Mul64(n, part)
	quotient, _ := bits.Div64(hi, lo, whole)
	return quotient
}

// neighbour is an epoch at the border of its exporter's run, by flow.
type neighbour struct {
	*epoch.Epoch
	flows map[flow.Key]*epoch.Flow
}

// most is how many bytes of a flow an exporter has in a span at most. MaxUint64 is
// any number: its epochs are gone, or haven't come in yet.
func (r *resolution) most(x *exporter, s span, key *flow.Key) (bytes uint64) {
	var known time.Duration
	for _, n := range r.neighbours(x) {
		if n.End.Add(border).Before(s.from) || n.Start.Add(-border).After(s.to) {
			continue
		}
		known += s.overlap(n.Start, n.End)
		bytes = saturated(bytes, n.most(key))
	}
	if known < x.covered(s) {
		return math.MaxUint64
	}
	return bytes
}

// most is the upper end of a flow's interval in the epoch.
func (n *neighbour) most(key *flow.Key) uint64 {
	if f := n.flows[*key]; f != nil {
		return n.FlowInterval(f).Upper
	}
	return n.Folded(flow.Source).Bytes + n.Hidden.Bytes + n.Remainder().Bytes
}

// neighbours returns the epochs of an exporter that are still there.
func (r *resolution) neighbours(x *exporter) []neighbour {
	found, known := r.borders[x]
	if known {
		return found
	}
	add := func(epochs []held) {
		for i := range epochs {
			if h := &epochs[i]; h.exporter == x && x.nearBorder(h.span()) {
				found = append(found, newNeighbour(h))
			}
		}
	}
	for _, b := range r.store.buckets {
		add(b.epochs)
	}
	add(r.store.borders)
	r.borders[x] = found
	return found
}

func newNeighbour(h *held) neighbour {
	n := neighbour{Epoch: h.unpack()}
	n.flows = make(map[flow.Key]*epoch.Flow, len(n.Flows))
	for i := range n.Flows {
		n.flows[n.Flows[i].Key] = &n.Flows[i]
	}
	return n
}

// keepBorders keeps, of the epochs of a bucket that closes, those that open buckets
// may still need.
func (s *Store) keepBorders(b *bucket) {
	before := b.from().Add(-maxBorderEpoch)
	s.borders = slices.DeleteFunc(s.borders, func(h held) bool { return h.end.Before(before) })
	for _, h := range b.epochs {
		if h.exporter.nearBorder(h.span()) {
			s.borders = append(s.borders, h)
		}
	}
}
