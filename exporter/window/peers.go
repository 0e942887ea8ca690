package window

import (
	"cmp"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

const (
	// PeersWindow is the time over which distinct peers are counted. One window does:
	// numbers rise with the first epoch of a flood, whatever the window's length, a
	// slow scan needs a long one, and an alert clears after it.
	PeersWindow = time.Minute
	// peersInterval is how often they are ranked.
	peersInterval = time.Second
)

// TopPeers is the addresses with the most distinct peers in PeersWindow. It is
// immutable.
type TopPeers struct {
	Sources      PeersRanking // by their destinations
	Destinations PeersRanking // by their sources
	// SampleRatio is the share of pairs that were sampled. An entry's standard error is
	// 1/sqrt(peers * SampleRatio) of it, but 0.032 where that is less and not all are
	// sampled.
	SampleRatio float64
}

// PeersRanking is one dimension's.
type PeersRanking struct {
	Entries []pairs.Spread // by peers, most first; at most k
	// Admissions and Evictions count entries that came and went since the start.
	Admissions, Evictions uint64
}

// Peers finds the sources with the most distinct destinations, such as scanners,
// and the destinations with the most distinct sources, such as victims of a flood,
// in fixed memory. Traffic doesn't matter: few packets to many addresses are what it
// is about.
type Peers struct {
	window   *pairs.Window
	unranked time.Duration // since the last ranking
	now      time.Duration
	rankings [2]peersRanking // by flow.Dimension
	top      atomic.Pointer[TopPeers]
}

// NewPeers returns an empty Peers of k entries in each dimension.
func NewPeers(k int) *Peers {
	p := &Peers{window: pairs.NewWindow(PeersWindow)}
	for d := range p.rankings {
		p.rankings[d] = peersRanking{k: k, entries: map[[16]byte]*peersEntry{}}
	}
	return p
}

// Top returns the top as of the last second, nil before the first.
func (p *Peers) Top() *TopPeers { return p.top.Load() }

// Add takes an epoch's pairs. It reads e and keeps nothing of it.
func (p *Peers) Add(e *epoch.Epoch) {
	if e.Pairs == nil {
		return
	}
	span := e.End.Sub(e.Start)
	p.window.Add(e.Pairs, span)
	p.now += span
	if p.unranked += span; p.unranked < peersInterval && p.Top() != nil {
		return
	}
	p.unranked = 0
	p.window.Sweep()
	p.top.Store(&TopPeers{
		Sources:      p.rankings[flow.Source].rank(p.window.Spreads(flow.Source), p.now),
		Destinations: p.rankings[flow.Destination].rank(p.window.Spreads(flow.Destination), p.now),
		SampleRatio:  1 / float64(uint64(1)<<p.window.Level()),
	})
}

// An address becomes an entry with so many sampled pairs, unless all are sampled,
// and ceases to be one with fewer than that: a number with an error of 25 % tells a
// scanner from others, one pair that stands for a thousand doesn't. With 8 pairs,
// thousands of addresses that are all alike would change places by chance.
const (
	enoughToEnter = 16
	enoughToStay  = 4
)

// peersRanking chooses entries so that they change only if peers do: a place is free
// or an address has a quarter more peers than an entry that has been there for a
// window, or four times as many as any, and more than chance explains. Unlike bytes,
// distinct peers can't be added up over panes, as ranking does.
type peersRanking struct {
	k       int
	entries map[[16]byte]*peersEntry
	larger  []pairs.Spread // than all but a few; for the next call again
	told    PeersRanking
}

type peersEntry struct {
	pairs.Spread
	since time.Duration
}

// rank chooses the entries of all addresses.
func (r *peersRanking) rank(all iter.Seq[pairs.Spread], now time.Duration) PeersRanking {
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
	r.told.Entries = make([]pairs.Spread, 0, len(r.entries))
	for _, e := range r.entries {
		r.told.Entries = append(r.told.Entries, e.Spread)
	}
	slices.SortFunc(r.told.Entries, morePeers)
	return r.told
}

// challengers brings the entries up to date and returns the k largest of the others,
// largest first.
func (r *peersRanking) challengers(all iter.Seq[pairs.Spread]) []pairs.Spread {
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
func (r *peersRanking) insert(larger []pairs.Spread, s pairs.Spread) []pairs.Spread {
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
func morePeers(a, b pairs.Spread) int {
	return cmp.Or(cmp.Compare(b.Estimate(), a.Estimate()), slices.Compare(a.Address[:], b.Address[:]))
}

// admit tells whether there was a place for an address, or one that had to give way.
func (r *peersRanking) admit(s *pairs.Spread, now time.Duration) bool {
	if len(r.entries) == r.k {
		least := r.least(s, now)
		if least == nil {
			return false
		}
		r.evict(least.Address)
	}
	r.entries[s.Address] = &peersEntry{*s, now}
	r.told.Admissions++
	return true
}

// least returns the smallest of the entries that give way, nil if none does.
func (r *peersRanking) least(to *pairs.Spread, now time.Duration) *peersEntry {
	var least *peersEntry
	for _, e := range r.entries {
		if e.yields(to, now) && (least == nil || morePeers(e.Spread, least.Spread) > 0) {
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
func (e *peersEntry) yields(to *pairs.Spread, now time.Duration) bool {
	mine, others := float64(e.Estimate()), float64(to.Estimate())
	variance := mine*float64(uint64(1)<<e.Level) + others*float64(uint64(1)<<to.Level)
	if others <= mine || (others-mine)*(others-mine) <= 4*variance {
		return false
	}
	settled := now-e.since >= PeersWindow
	return others > outclassPeers*mine || settled && others > overtakePeers*mine
}

func (r *peersRanking) evict(address [16]byte) {
	delete(r.entries, address)
	r.told.Evictions++
}
