package pairs

import (
	"math/bits"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
)

// SeedOf returns the seed that all hosts with a key have. It is as secret as the key.
func SeedOf(key siphash.Key) Seed {
	return Seed{key.Sum([]byte("tma pairs seed 0")), key.Sum([]byte("tma pairs seed 1"))}
}

// Pair is a source and a destination that talked, and up to which level it is sampled.
type Pair struct {
	Source, Destination [16]byte
	Level               uint8
}

func (p *Pair) address(d flow.Dimension) *[16]byte {
	if d == flow.Source {
		return &p.Source
	}
	return &p.Destination
}

// Thinned is a sample that was made small enough to be sent: all pairs of a host and
// an epoch from Level on, or from that of a crowded address on which has them.
// Samples of several hosts merge if their seeds are the same.
type Thinned struct {
	Level   uint8
	Pairs   []Pair // may be there twice
	Crowded []Crowded
}

// Crowded is an address with so many peers that it has a level of its own.
type Crowded struct {
	Dimension flow.Dimension
	Address   [16]byte
	Level     uint8
}

// Thin returns what of a sample may be sent: no more pairs than there is room for, not
// counting those that are free. First the address with the most peers gets a higher
// level, as one victim or scanner mustn't hide all others; if none has a quarter of
// the pairs, all get one.
func (s *Sample) Thin(room int, free func(*Pair) bool) *Thinned {
	t := &Thinned{Level: s.level, Pairs: make([]Pair, len(s.pairs))}
	costly := 0
	for i := range s.pairs {
		p := &s.pairs[i]
		t.Pairs[i] = Pair{p.source, p.destination, p.level()}
		if !free(&t.Pairs[i]) {
			costly++
		}
	}
	for costly > room {
		drop := t.thinner(costly, max(1, room), free)
		t.Pairs = slices.DeleteFunc(t.Pairs, func(p Pair) bool {
			if !drop(&p) {
				return false
			}
			if !free(&p) {
				costly--
			}
			return true
		})
	}
	return t
}

// thinner raises one level, by as much as leaves no less than there is room for, and
// says which pairs don't have it.
func (t *Thinned) thinner(costly, room int, free func(*Pair) bool) (drop func(*Pair) bool) {
	d, address, peers := t.mostCrowded(free)
	i := slices.IndexFunc(t.Crowded, func(c Crowded) bool { return c.Dimension == d && c.Address == address })
	if peers < costly/4 || i < 0 && len(t.Crowded) == MaxCrowded {
		t.Level += rise(costly, room)
		return func(p *Pair) bool { return p.Level < t.Level }
	}
	if i < 0 {
		i = len(t.Crowded)
		t.Crowded = append(t.Crowded, Crowded{d, address, t.Level})
	}
	t.Crowded[i].Level += rise(peers, room)
	level := t.Crowded[i].Level
	return func(p *Pair) bool { return p.Level < level && *p.address(d) == address }
}

func rise(pairs, room int) uint8 { return uint8(max(1, bits.Len(uint(pairs/room))-1)) }

// mostCrowded returns the address that has the most pairs.
func (t *Thinned) mostCrowded(free func(*Pair) bool) (dimension flow.Dimension, address [16]byte, peers int) {
	for _, d := range flow.Dimensions {
		counts := make(map[[16]byte]int)
		for i := range t.Pairs {
			if free(&t.Pairs[i]) {
				continue
			}
			a := t.Pairs[i].address(d)
			counts[*a]++
			if counts[*a] > peers {
				dimension, address, peers = d, *a, counts[*a]
			}
		}
	}
	return dimension, address, peers
}

// MaxCrowded is how many crowded addresses one sample may have.
const MaxCrowded = 16

// Merge adds a host's sample at a time, which is since any point and doesn't fall. It
// keeps nothing of it. It isn't for windows to which Add adds.
func (w *Window) Merge(t *Thinned, now time.Duration) {
	w.now = max(w.now, now)
	w.all.missed(t.Level)
	for i := range t.Crowded {
		w.crowd(&t.Crowded[i])
	}
	for i := range t.Pairs {
		if p := &t.Pairs[i]; p.Level >= w.all.kept {
			w.add(w.pair(p))
		}
	}
}

// crowd gives an address the level that a sample has of it.
func (w *Window) crowd(c *Crowded) {
	l, ok := w.crowded[c.Dimension][c.Address]
	switch {
	case !ok && len(w.crowded[c.Dimension]) == maxCrowdedAddresses:
		w.all.missed(c.Level)
		return
	case !ok:
		l = &level{turned: w.now}
		w.crowded[c.Dimension][c.Address] = l
	}
	l.missed(c.Level)
}

// maxCrowdedAddresses bounds what samples say of addresses. Beyond it all addresses
// are taken to have the level, which is true but less exact.
const maxCrowdedAddresses = 1024

// pair returns a sampled pair whose hash, since the one by which it was sampled isn't
// known, is the window's own behind as many zeros as its level.
func (w *Window) pair(p *Pair) *pair {
	high, low := bits.Mul64(hashAddress(&p.Source, &w.seed)^w.seed[1], hashAddress(&p.Destination, &w.seed)^w.seed[0]|1)
	hash := ((high^low)>>1 | 1<<63) >> p.Level
	return &pair{hash, p.Source, p.Destination}
}
