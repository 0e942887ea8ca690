package store

import (
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

const (
	// PeersWindow is the time over which distinct peers are counted, as exporters do.
	PeersWindow = time.Minute
	// peersInterval is how often they are ranked.
	peersInterval = time.Second
	// topPeers is how many addresses are ranked in each dimension.
	topPeers = 20
)

// Peers are the addresses of the fleet with the most distinct peers in PeersWindow, at
// most 20 in each dimension. A pair that several hosts saw is one pair.
type Peers struct {
	Sources      pairs.Top // by their destinations
	Destinations pairs.Top // by their sources
	// SampleRatio is the share of pairs that were sampled, but for addresses with very
	// many peers. A number n has a relative standard error of 1/sqrt(n*SampleRatio), or
	// 0.032 where that is less and not all are sampled.
	SampleRatio float64
}

// peers merges the samples of all exporters. It has a lock of its own, since it takes
// longer than what the store's protects.
type peers struct {
	mu       sync.Mutex
	window   *pairs.Window
	begin    time.Time // that the window's time is since
	ranked   time.Time
	rankings [len(flow.Dimensions)]*pairs.Ranking
	top      Peers
}

func newPeers(now time.Time) *peers {
	p := &peers{window: pairs.NewWindow(PeersWindow), begin: now, ranked: now.Add(-peersInterval)}
	for d := range p.rankings {
		p.rankings[d] = pairs.NewRanking(topPeers, PeersWindow)
	}
	return p
}

// add merges the sample of an epoch that has just come in. One that came in a window
// too late is left out: its pairs would be taken for new ones.
func (p *peers) add(e *epoch.Epoch, now time.Time) {
	if e.SampledPairs == nil || now.Sub(e.End) > PeersWindow {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window.Merge(e.SampledPairs, now.Sub(p.begin))
	p.rank(now)
}

// rank brings the top up to date, once a second.
func (p *peers) rank(now time.Time) {
	if now.Sub(p.ranked) < peersInterval {
		return
	}
	p.ranked = now
	since := now.Sub(p.begin)
	p.window.Merge(&pairs.Thinned{}, since)
	p.window.Sweep()
	p.top = Peers{
		Sources:      p.rankings[flow.Source].Rank(p.window.Spreads(flow.Source), since),
		Destinations: p.rankings[flow.Destination].Rank(p.window.Spreads(flow.Destination), since),
		SampleRatio:  1 / float64(uint64(1)<<p.window.Level()),
	}
}

// Peers returns the top of the last minute, of at most a second ago.
func (s *Store) Peers() Peers {
	s.peers.mu.Lock()
	defer s.peers.mu.Unlock()
	s.peers.rank(s.now())
	return s.peers.top
}
