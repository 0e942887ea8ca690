package window

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// Cardinalities are the windows over which distinct things are counted.
var Cardinalities = []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute}

// cardinalityPanes is how many sketches make a window: it slides by a twentieth
// of its length. The newest is still being filled, so that a window reaches back
// by its length, less at most a twentieth.
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

// slidingSketches are one kind's, a ring for each window.
type slidingSketches struct {
	mu    sync.Mutex
	rings []sketchRing
}

// sketchRing is the panes of one window. A pane is the time between two multiples
// of the pane's length.
type sketchRing struct {
	window time.Duration
	newest int64 // number of the newest pane
	panes  [cardinalityPanes]sketchPane
}

type sketchPane struct {
	number int64 // which pane this place holds; another one's registers are stale
	sketch hll.Sketch
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
	s := &slidingSketches{rings: make([]sketchRing, len(Cardinalities))}
	for i, window := range Cardinalities {
		s.rings[i].window = window
		for j := range s.rings[i].panes {
			s.rings[i].panes[j].number = -1
		}
	}
	return s
}

func (s *slidingSketches) add(end time.Time, sketch *hll.Sketch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.rings {
		s.rings[i].add(end, sketch)
	}
}

func (s *slidingSketches) appendTo(to []Estimate, of string) []Estimate {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.rings {
		to = append(to, Estimate{of, s.rings[i].window, s.rings[i].estimate()})
	}
	return to
}

// add merges into the pane in which an epoch that ends just now lies.
func (r *sketchRing) add(end time.Time, sketch *hll.Sketch) {
	length := int64(r.window) / cardinalityPanes
	number := (end.UnixNano() - 1) / length
	pane := &r.panes[number%cardinalityPanes]
	if pane.number != number {
		pane.number = number
		pane.sketch.Reset()
	}
	pane.sketch.Merge(sketch)
	r.newest = number
}

// estimate merges the panes of the window. Panes numbered above the newest are
// from before the clock was set back.
func (r *sketchRing) estimate() float64 {
	var union hll.Sketch
	for i := range r.panes {
		if n := r.panes[i].number; n > r.newest-cardinalityPanes && n <= r.newest {
			union.Merge(&r.panes[i].sketch)
		}
	}
	return union.Estimate()
}
