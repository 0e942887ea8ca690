package window

import (
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/entropy"
)

// entropyPanes is how many sketches make a window: it slides by a tenth of its
// length.
const entropyPanes = 10

// EntropyRatio says how evenly packets are spread over addresses in a window: 1 if
// each has equally many, 0 if one has all.
type EntropyRatio struct {
	Of     string // epoch.OfSources or epoch.OfDestinations
	Window time.Duration
	Value  float64
}

// Entropy takes the entropy of the packets' sources and destinations over sliding
// windows, in 2 MiB. It is of packets rather than of bytes (Lakhina, Crovella and
// Diot, "Mining anomalies using traffic feature distributions", 2005): floods and
// scans are many small packets, which hide in bytes behind one download.
type Entropy struct {
	seed hashSeed

	// Those of the epoch that is being added, by flow.Dimension.
	epochs [2]*entropy.Accumulator

	mu      sync.Mutex
	windows [2][]panes[*entropy.Sketch] // by flow.Dimension
	union   *entropy.Union
}

// NewEntropy returns an empty Entropy.
func NewEntropy() *Entropy {
	e := &Entropy{seed: newHashSeed(), union: entropy.NewUnion()}
	for d := range e.windows {
		e.epochs[d] = entropy.NewAccumulator()
		for _, window := range Cardinalities {
			e.windows[d] = append(e.windows[d], newPanes(window, entropyPanes, entropy.NewSketch))
		}
	}
	return e
}

// Add counts an epoch's packets. It reads e and keeps nothing of it.
func (y *Entropy) Add(e *epoch.Epoch) {
	sources, destinations := y.epochs[flow.Source], y.epochs[flow.Destination]
	for i := range e.Flows {
		f := &e.Flows[i]
		sources.Add(hashAddress(f.Source, &y.seed), f.Packets)
		destinations.Add(hashAddress(f.Destination, &y.seed), f.Packets)
	}
	for i := range e.Ladders {
		y.addLadder(&e.Ladders[i])
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	for d, epoch := range y.epochs {
		for i := range y.windows[d] {
			sketch, stale := y.windows[d][i].at(e.End)
			if stale {
				sketch.Reset()
			}
			sketch.Add(epoch)
		}
		epoch.Reset()
	}
}

// addLadder counts what gave up its flow: under its address if that is still known.
func (y *Entropy) addLadder(l *epoch.Ladder) {
	to := y.epochs[l.Dimension]
	for i := range l.Entries {
		if p := &l.Entries[i]; p.IsSingleIP() {
			to.Add(hashAddress(p.Addr().As16(), &y.seed), p.Packets)
		} else {
			to.AddHidden(p.Packets)
		}
	}
}

// Ratios returns each window's entropy, given how many distinct sources and
// destinations there were in each, as Cardinality estimates.
func (y *Entropy) Ratios(distinct []Estimate) []EntropyRatio {
	y.mu.Lock()
	defer y.mu.Unlock()
	var all []EntropyRatio
	for _, n := range distinct {
		d, ok := dimensionOf[n.Of]
		if !ok {
			continue
		}
		for i, window := range Cardinalities {
			if window == n.Window {
				y.union.Set(y.windows[d][i].all())
				all = append(all, EntropyRatio{n.Of, window, y.union.Ratio(n.Value)})
			}
		}
	}
	return all
}

var dimensionOf = map[string]flow.Dimension{epoch.OfSources: flow.Source, epoch.OfDestinations: flow.Destination}
