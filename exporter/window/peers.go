package window

import (
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
	Sources      pairs.Top // by their destinations
	Destinations pairs.Top // by their sources
	// SampleRatio is the share of pairs that were sampled. An entry's standard error is
	// 1/sqrt(peers * SampleRatio) of it, but 0.032 where that is less and not all are
	// sampled.
	SampleRatio float64
}

// Peers finds the sources with the most distinct destinations, such as scanners,
// and the destinations with the most distinct sources, such as victims of a flood,
// in fixed memory. Traffic doesn't matter: few packets to many addresses are what it
// is about.
type Peers struct {
	window   *pairs.Window
	unranked time.Duration // since the last ranking
	now      time.Duration
	rankings [2]*pairs.Ranking // by flow.Dimension
	top      atomic.Pointer[TopPeers]
}

// NewPeers returns an empty Peers of k entries in each dimension.
func NewPeers(k int) *Peers {
	p := &Peers{window: pairs.NewWindow(PeersWindow)}
	for d := range p.rankings {
		p.rankings[d] = pairs.NewRanking(k, PeersWindow)
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
		Sources:      p.rankings[flow.Source].Rank(p.window.Spreads(flow.Source), p.now),
		Destinations: p.rankings[flow.Destination].Rank(p.window.Spreads(flow.Destination), p.now),
		SampleRatio:  1 / float64(uint64(1)<<p.window.Level()),
	})
}
