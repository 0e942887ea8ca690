package window

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// Cardinalities are the windows over which distinct things are counted, and over which
// entropies are taken.
var Cardinalities = []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute}

// cardinalityPanes is how many sketches make a window: it slides by a twentieth of
// its length.
const cardinalityPanes = 20

// Estimate is how many distinct things were seen in a window.
type Estimate struct {
	Of     string // epoch.OfFlows, epoch.OfSources, ...
	Window time.Duration
	Value  float64 // with a standard error of hll.RelativeError
}

// Cardinality counts distinct things over sliding windows by merging each epoch's
// sketches: 1 MiB for each kind of thing, whatever the traffic.
type Cardinality struct {
	mu    sync.Mutex
	kinds map[string]*slidingSketches
}

// slidingSketches are one kind's, for each window.
type slidingSketches struct {
	mu      sync.Mutex
	windows []panes[*hll.Sketch]
}

// NewCardinality returns an empty Cardinality.
func NewCardinality() *Cardinality {
	return &Cardinality{kinds: map[string]*slidingSketches{}}
}

// Add merges an epoch's sketches. It reads e and keeps nothing of it.
func (c *Cardinality) Add(e *epoch.Epoch) {
	for i := range e.Sketches {
		c.kind(e.Sketches[i].Of).add(e.End, e.Sketches[i].HLL)
	}
}

func (c *Cardinality) kind(of string) *slidingSketches {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.kinds[of]
	if !ok {
		k = newSlidingSketches()
		c.kinds[of] = k
	}
	return k
}

// Estimates returns the estimate of each kind and window, in a fixed order.
func (c *Cardinality) Estimates() []Estimate {
	c.mu.Lock()
	names := make([]string, 0, len(c.kinds))
	for of := range c.kinds {
		names = append(names, of)
	}
	c.mu.Unlock()
	slices.SortFunc(names, strings.Compare)
	var all []Estimate
	for _, of := range names {
		all = c.kind(of).appendTo(all, of)
	}
	return all
}

func newSlidingSketches() *slidingSketches {
	s := &slidingSketches{}
	for _, window := range Cardinalities {
		s.windows = append(s.windows, newPanes(window, cardinalityPanes, func() *hll.Sketch { return &hll.Sketch{} }))
	}
	return s
}

func (s *slidingSketches) add(end time.Time, sketch *hll.Sketch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.windows {
		pane, stale := s.windows[i].at(end)
		if stale {
			pane.Reset()
		}
		pane.Merge(sketch)
	}
}

func (s *slidingSketches) appendTo(to []Estimate, of string) []Estimate {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, window := range Cardinalities {
		var union hll.Sketch
		for sketch := range s.windows[i].all() {
			union.Merge(sketch)
		}
		to = append(to, Estimate{of, window, union.Estimate()})
	}
	return to
}
