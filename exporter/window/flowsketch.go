package window

import (
	"math"
	"sync"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/cms"
)

// Sizes of a FlowSketch: 3.25 MiB, however long it reaches back.
const (
	flowPanes       = 24
	flowPaneColumns = 1 << 13
)

// FlowSketch bounds the bytes of each flow that isn't among those that went out, over
// the last minutes: the smaller flows of each epoch, and what of flows was folded
// before its end. It is a ring of Count-Min sketches, each of a span of time, whose
// memory comes with the first flow that it has to hold; those whose time is over are
// packed. Safe for concurrent use.
type FlowSketch struct {
	history *History
	span    time.Duration // of a pane

	mu     sync.Mutex
	seed   *flow.HashSeed
	panes  [flowPanes]flowPane
	last   int         // the pane that is being filled
	sketch *cms.Sketch // that pane's; nil if nothing had to be counted yet
}

// flowPane is what several epochs in a row have in common.
type flowPane struct {
	sketch      *cms.Packed // when its time is over; nil if nothing had to be counted
	folded      uint64      // bytes that were folded before the end of their epoch
	begin       time.Time
	first, last uint64 // sequences; 0 for none
}

// flowBounds are a pane's, of one flow.
type flowBounds struct {
	first, last uint64 // sequences of the epochs that it is about
	estimate    uint64 // at least the flow's bytes that didn't go out under its key
	folded      uint64 // see flowPane
}

// NewFlowSketch returns an empty sketch of what doesn't go out by a History. It reaches
// back for at least so long.
func NewFlowSketch(h *History, retention time.Duration) *FlowSketch {
	return &FlowSketch{history: h, seed: flow.NewHashSeed(), span: retention / (flowPanes - 1)}
}

// Add counts what of an epoch's flows isn't among those that go out. It is the epoch
// that the History encoded last. It reads it and keeps nothing of it.
func (s *FlowSketch) Add(e *epoch.Epoch) {
	sent := s.history.Sent()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pane(e)
	p.last = e.Sequence
	if folded := e.FoldedFlows; folded != nil && folded.Total() != 0 {
		s.reserve()
		s.sketch.Merge(folded.Sketch)
		p.folded += folded.Total()
	}
	if len(sent.Flows) == len(e.Flows) {
		return
	}
	s.reserve()
	// Those that are as large as the smallest that is sent may be sent or not.
	smallest := smallestFlow(sent.Flows)
	for i := range e.Flows {
		if f := &e.Flows[i]; f.Bytes <= smallest {
			s.sketch.Add(f.Key.Hash(s.seed), f.Bytes)
		}
	}
}

// pane returns the one in which an epoch lies, after those before are over.
func (s *FlowSketch) pane(e *epoch.Epoch) *flowPane {
	if e.FoldedFlows != nil && e.FoldedFlows.Seed != s.seed {
		s.forget(e.FoldedFlows.Seed)
	}
	p := &s.panes[s.last]
	follows := p.first != 0 && e.Sequence == p.last+1
	if age := e.Start.Sub(p.begin); follows && age >= 0 && age < s.span {
		return p
	}
	p.pack(s.sketch)
	s.last = (s.last + 1) % flowPanes
	p = &s.panes[s.last]
	p.begin, p.first, p.folded = e.Start, e.Sequence, 0
	return p
}

// pack keeps what was counted in the pane, and empties its sketch for the next one.
func (p *flowPane) pack(sketch *cms.Sketch) {
	if sketch == nil || sketch.Total() == 0 && p.sketch == nil {
		return
	}
	if p.sketch == nil {
		p.sketch = &cms.Packed{}
	}
	p.sketch.Pack(sketch)
	sketch.Reset()
}

// forget makes all panes empty, for hashes under another seed. That happens once,
// with the first epoch.
func (s *FlowSketch) forget(seed *flow.HashSeed) {
	s.seed = seed
	for i := range s.panes {
		s.panes[i] = flowPane{}
	}
	if s.sketch != nil {
		s.sketch.Reset()
	}
}

func (s *FlowSketch) reserve() {
	if s.sketch == nil {
		s.sketch = cms.New(flowPaneColumns)
	}
}

// smallestFlow returns the bytes of the smallest, and no bound if there is none.
func smallestFlow(flows []epoch.Flow) uint64 {
	smallest := uint64(math.MaxUint64)
	for i := range flows {
		smallest = min(smallest, flows[i].Bytes)
	}
	return smallest
}

// bounds returns those of a flow, pane by pane.
func (s *FlowSketch) bounds(key *flow.Key) []flowBounds {
	s.mu.Lock()
	defer s.mu.Unlock()
	hash := key.Hash(s.seed)
	all := make([]flowBounds, 0, flowPanes)
	for i := range s.panes {
		p := &s.panes[i]
		if p.first == 0 {
			continue
		}
		b := flowBounds{first: p.first, last: p.last, folded: p.folded}
		switch {
		case i == s.last && s.sketch != nil:
			b.estimate = s.sketch.Estimate(hash)
		case i != s.last && p.sketch != nil:
			b.estimate = p.sketch.Estimate(hash)
		}
		all = append(all, b)
	}
	return all
}
