package pairs

import (
	"cmp"
	"iter"
	"slices"
	"time"
)

// Top is the addresses with the most distinct peers.
type Top struct {
	Entries []Spread // by peers, most first
	// Admissions and Evictions count entries that came and went since the start.
	Admissions, Evictions uint64
}

// An address becomes an entry with so many sampled pairs, unless all are sampled,
// and ceases to be one with fewer than that: a number with an error of 25 % tells a
// scanner from others, one pair that stands for a thousand doesn't. With 8 pairs,
// thousands of addresses that are all alike would change places by chance.
const (
	enoughToEnter = 16
	enoughToStay  = 4
)

// Ranking chooses entries so that they change only if peers do: a place is free
// or an address has a quarter more peers than an entry that has been there for a
// window, or four times as many as any, and more than chance explains.
type Ranking struct {
	k       int
	span    time.Duration // of the window
	entries map[[16]byte]*rankingEntry
	larger  []Spread // than all but a few; for the next call again
	told    Top
}

type rankingEntry struct {
	Spread
	since time.Duration
}

// NewRanking returns an empty ranking of k entries for a window of a length.
func NewRanking(k int, span time.Duration) *Ranking {
	return &Ranking{k: k, span: span, entries: make(map[[16]byte]*rankingEntry)}
}

// Rank chooses the entries of all addresses. Time is since any point.
func (r *Ranking) Rank(all iter.Seq[Spread], now time.Duration) Top {
	for _, e := range r.entries {
		e.Sampled = 0
	}
	challengers := r.challengers(all)
	for address, e := range r.entries {
		if e.Level > 0 && e.Sampled < enoughToStay || e.Sampled == 0 {
			r.evict(address)
		}
	}
	for i := range challengers {
		if !r.admit(&challengers[i], now) {
			break // and smaller ones don't get in either
		}
	}
	r.told.Entries = make([]Spread, 0, len(r.entries))
	for _, e := range r.entries {
		r.told.Entries = append(r.told.Entries, e.Spread)
	}
	slices.SortFunc(r.told.Entries, morePeers)
	return r.told
}

// challengers brings the entries up to date and returns the k largest of the others,
// largest first.
func (r *Ranking) challengers(all iter.Seq[Spread]) []Spread {
	larger := r.larger[:0]
	for s := range all {
		if e, ok := r.entries[s.Address]; ok {
			e.Spread = s
		} else if s.Level == 0 || s.Sampled >= enoughToEnter {
			larger = r.insert(larger, s)
		}
	}
	r.larger = larger
	return larger
}

// insert keeps a list of the k largest sorted.
func (r *Ranking) insert(larger []Spread, s Spread) []Spread {
	if len(larger) == r.k {
		if morePeers(s, larger[r.k-1]) > 0 {
			return larger
		}
		larger = larger[:r.k-1]
	}
	i, _ := slices.BinarySearchFunc(larger, s, morePeers)
	return slices.Insert(larger, i, s)
}

// morePeers orders by peers, most first.
func morePeers(a, b Spread) int {
	return cmp.Or(cmp.Compare(b.Estimate(), a.Estimate()), slices.Compare(a.Address[:], b.Address[:]))
}

// admit tells whether there was a place for an address, or one that had to give way.
func (r *Ranking) admit(s *Spread, now time.Duration) bool {
	if len(r.entries) == r.k {
		least := r.least(s, now)
		if least == nil {
			return false
		}
		r.evict(least.Address)
	}
	r.entries[s.Address] = &rankingEntry{*s, now}
	r.told.Admissions++
	return true
}

// least returns the smallest of the entries that give way, nil if none does.
func (r *Ranking) least(to *Spread, now time.Duration) *rankingEntry {
	var least *rankingEntry
	for _, e := range r.entries {
		if e.yields(to, now, r.span) && (least == nil || morePeers(e.Spread, least.Spread) > 0) {
			least = e
		}
	}
	return least
}

// By how many times an address must have more peers than an entry for it to give way:
// one that has been there for a window, and any.
const (
	overtakePeers = 1.25
	outclassPeers = 4
)

// yields tells whether an entry gives way to an address. Two standard errors are
// more than chance; numbers that are exact vary by about their root all the same.
func (e *rankingEntry) yields(to *Spread, now, span time.Duration) bool {
	mine, others := float64(e.Estimate()), float64(to.Estimate())
	variance := mine*float64(uint64(1)<<e.Level) + others*float64(uint64(1)<<to.Level)
	if others <= mine || (others-mine)*(others-mine) <= 4*variance {
		return false
	}
	settled := now-e.since >= span
	return others > outclassPeers*mine || settled && others > overtakePeers*mine
}

func (r *Ranking) evict(address [16]byte) {
	delete(r.entries, address)
	r.told.Evictions++
}
