package pairs

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

const (
	// windowRoom is how many pairs a Window keeps at most.
	windowRoom = 1 << 15
	// enough is how many pairs of one address are worth keeping: they estimate the
	// number of its peers to 2.2 to 3.1 %. Without this bound a flood's pairs would
	// push all others out.
	enough = 2048
)

// Spread says with how many distinct peers an address talks.
type Spread struct {
	Address [16]byte
	Sampled int32 // pairs, of which each
	Level   uint8 // stands for 2^Level
}

// Estimate returns the estimated number of peers.
func (s *Spread) Estimate() uint64 { return uint64(s.Sampled) << s.Level }

// Window merges the samples of the last epochs. A pair is in it once, with the time
// at which it was last seen, so that the window slides by epochs and not by panes.
//
// An address with more pairs than are worth keeping gets a level of its own, above
// the window's. The peers of one such address are found with its level alone: where
// both addresses of a pair have one, the less crowded may miss that peer. So an
// estimate is too low by at most the number of the other direction's crowded
// addresses, of which there is room for 16 at a time.
//
// It isn't safe for concurrent use.
type Window struct {
	span    time.Duration
	now     time.Duration // sum of the epochs' lengths: not moved by a clock that is set
	pairs   []seenPair
	index   index
	all     level
	crowded [2]map[[16]byte]*level // by flow.Dimension

	spreads []counted // of grouping by one dimension
	groups  index
	seed    Seed
}

type seenPair struct {
	pair
	seen time.Duration
}

// counted is an address with what is kept of it.
type counted struct {
	Spread
	kept int32 // pairs, those below Level included
}

// level is from which level on pairs are kept and, which may be more, from which on
// they were kept throughout the window and count.
type level struct {
	kept, counts uint8
	highest      uint8 // since turned
	turned       time.Duration
}

func (l *level) raiseTo(level uint8) {
	l.kept = max(l.kept, level)
	l.missed(level)
}

// missed notes that pairs below a level are missing.
func (l *level) missed(below uint8) {
	l.highest = max(l.highest, below)
	l.counts = max(l.counts, below)
}

// turn lets what was kept throughout the last window count and lowers the level by
// so much, if a window has passed since it did so last.
func (l *level) turn(fall uint8, now, span time.Duration) {
	if now-l.turned < span {
		return
	}
	l.counts, l.turned = l.highest, now
	l.kept -= min(fall, l.kept)
	l.highest = l.kept
}

// NewWindow returns an empty window of a length.
func NewWindow(span time.Duration) *Window {
	return &Window{
		span:    span,
		pairs:   make([]seenPair, 0, windowRoom),
		index:   newIndex(windowRoom),
		crowded: [2]map[[16]byte]*level{{}, {}},
		spreads: make([]counted, 0, windowRoom),
		groups:  newIndex(windowRoom),
		seed:    NewSeed(),
	}
}

// Add moves the window on by an epoch's length and merges its sample, of which it
// keeps nothing. The sample begins its next epoch at the window's level: what is
// below would be taken for nothing. All samples must have the same seed.
func (w *Window) Add(s *Sample, length time.Duration) {
	w.now += length
	w.all.missed(s.level)
	for i := range s.pairs {
		w.add(&s.pairs[i])
	}
	s.least = w.all.kept
}

func (w *Window) add(p *pair) {
	at := w.find(p.hash)
	if place := w.index.places[at]; place != 0 {
		w.pairs[place-1].seen = w.now
		return
	}
	if !w.keeps(p) {
		return
	}
	if len(w.pairs) == windowRoom {
		w.makeRoom()
		if !w.keeps(p) {
			return
		}
		at = w.find(p.hash)
	}
	w.pairs = append(w.pairs, seenPair{*p, w.now})
	w.index.places[at] = uint16(len(w.pairs))
}

// find returns where the index has the pair of a hash, or would have it.
func (w *Window) find(hash uint64) uint64 {
	at := w.index.first(hash)
	for w.index.places[at] != 0 && w.pairs[w.index.places[at]-1].hash != hash {
		at = w.index.next(at)
	}
	return at
}

// keeps tells whether a pair has the level of everybody and of its addresses.
func (w *Window) keeps(p *pair) bool {
	l := p.level()
	if l < w.all.kept {
		return false
	}
	for d, crowded := range w.crowded {
		if len(crowded) == 0 {
			continue
		}
		if of, ok := crowded[*p.address(flow.Dimension(d))]; ok && l < of.kept {
			return false
		}
	}
	return true
}

func (p *pair) address(d flow.Dimension) *[16]byte {
	if d == flow.Source {
		return &p.source
	}
	return &p.destination
}

// makeRoom brings the window down to at most three quarters of its room.
func (w *Window) makeRoom() {
	w.sweep()
	for len(w.pairs) > windowRoom*3/4 {
		w.all.raiseTo(w.all.kept + 1)
		w.drop()
	}
}

// Spreads returns the addresses of a dimension that have peers in the window, in no
// order. They are the window's own, and valid until its next call.
func (w *Window) Spreads(d flow.Dimension) iter.Seq[Spread] {
	w.count(d)
	return func(yield func(Spread) bool) {
		for i := range w.spreads {
			if s := &w.spreads[i]; s.Sampled > 0 && !yield(s.Spread) {
				return
			}
		}
	}
}

// Level is that of pairs of addresses that aren't crowded.
func (w *Window) Level() uint8 { return w.all.counts }

// Sweep takes out what is too old, and adapts levels to what is left. It is to be
// called every second or so.
func (w *Window) Sweep() {
	w.sweep()
	w.all.turn(doublings(windowRoom/2, int32(max(1, min(windowRoom/2, len(w.pairs))))), w.now, w.span)
}

func (w *Window) sweep() {
	w.drop()
	for _, d := range flow.Dimensions {
		w.count(d)
		w.thin(d)
	}
	w.drop()
}

// drop takes out what is too old or has too low a level.
func (w *Window) drop() {
	before := len(w.pairs)
	w.pairs = slices.DeleteFunc(w.pairs, func(p seenPair) bool { return w.now-p.seen >= w.span || !w.keeps(&p.pair) })
	if len(w.pairs) == before {
		return
	}
	clear(w.index.places)
	for i := range w.pairs {
		w.index.places[w.find(w.pairs[i].hash)] = uint16(i + 1)
	}
}

// count groups the pairs by address.
func (w *Window) count(d flow.Dimension) {
	if len(w.spreads) > 0 {
		clear(w.groups.places)
	}
	w.spreads = w.spreads[:0]
	for i := range w.pairs {
		p := &w.pairs[i].pair
		s := w.group(p.address(d), d)
		s.kept++
		if p.level() >= s.Level {
			s.Sampled++
		}
	}
}

// group returns the group of an address.
func (w *Window) group(address *[16]byte, d flow.Dimension) *counted {
	at := w.findGroup(address)
	if place := w.groups.places[at]; place != 0 {
		return &w.spreads[place-1]
	}
	s := counted{Spread: Spread{Address: *address, Level: w.all.counts}}
	if l, ok := w.crowded[d][*address]; ok {
		s.Level = max(s.Level, l.counts)
	}
	w.spreads = append(w.spreads, s)
	w.groups.places[at] = uint16(len(w.spreads))
	return &w.spreads[len(w.spreads)-1]
}

// findGroup returns where the index has the group of an address, or would have it.
func (w *Window) findGroup(address *[16]byte) uint64 {
	at := w.groups.first(hashAddress(address, &w.seed))
	for w.groups.places[at] != 0 && w.spreads[w.groups.places[at]-1].Address != *address {
		at = w.groups.next(at)
	}
	return at
}

// hashAddress mixes both halves of an address with a seed.
func hashAddress(address *[16]byte, seed *Seed) uint64 {
	a, b := binary.LittleEndian.Uint64(address[:8]), binary.LittleEndian.Uint64(address[8:])
	high, low := bits.Mul64(a^seed[0], b^seed[1])
	high, low = bits.Mul64(high^low^seed[1], seed[0]|1)
	return high ^ low
}

// thin gives addresses of which more is kept than enough a higher level, those of
// which little is left a lower one, and forgets those that need none.
func (w *Window) thin(d flow.Dimension) {
	for i := range w.spreads {
		if s := &w.spreads[i]; s.kept > enough {
			w.raise(d, s)
		}
	}
	for address, l := range w.crowded[d] {
		kept := int32(0)
		if place := w.groups.places[w.findGroup(&address)]; place != 0 {
			kept = w.spreads[place-1].kept
		}
		if l.turn(doublings(enough/2, max(1, min(enough/2, kept))), w.now, w.span); l.counts <= w.all.kept {
			delete(w.crowded[d], address)
		}
	}
}

// raise halves what is kept of an address until that is enough.
func (w *Window) raise(d flow.Dimension, s *counted) {
	l, ok := w.crowded[d][s.Address]
	if !ok {
		l = &level{turned: w.now}
		w.crowded[d][s.Address] = l
	}
	l.raiseTo(max(l.kept, w.all.kept) + doublings(s.kept, enough) + 1)
}

// doublings is how often b may be doubled until it is a.
func doublings(a, b int32) uint8 { return uint8(bits.Len(uint(a/b)) - 1) }
