package window

import (
	"sync/atomic"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// Bounds of what a TopK holds, whatever the traffic.
const (
	// maxPanes is how many panes a window has at most; short epochs share one.
	maxPanes = 30
	// minCandidates, and at least fourfold k, are the keys kept of each pane.
	minCandidates = 256
	// tableRoom is that of the table by which a pane's keys are summed: 2 MiB for
	// flows, less for the others.
	tableRoom = 1 << 15
)

// Top is the top of a window. It is immutable.
type Top struct {
	Span         time.Duration // that the window's epochs cover
	Total        epoch.Count   // of the window, duplicates not included
	Flows        Ranking[flow.Key]
	Sources      Ranking[[16]byte] // addresses as in flow.Key
	Destinations Ranking[[16]byte]
	Services     Ranking[flow.Service]
}

// TopK finds the flows, sources, destinations and services with the most bytes
// over a sliding window, in fixed memory.
//
// A key's traffic is summed exactly within a pane as long as the pane has fewer
// keys than tableRoom; the largest of each pane make the window. Traffic that was
// folded to a whole address still counts for that source or destination.
type TopK struct {
	window time.Duration
	keep   int // keys of each pane

	pane  paneBounds   // the one that is being filled
	panes []paneBounds // of the window, oldest first

	flowCandidates        candidates[flow.Key]
	sourceCandidates      candidates[[16]byte]
	destinationCandidates candidates[[16]byte]
	serviceCandidates     candidates[flow.Service]
	scratch               []uint64

	flows                 ranking[flow.Key]
	sources, destinations ranking[[16]byte]
	services              ranking[flow.Service]

	top atomic.Pointer[Top]
}

// paneBounds is what all rankings share of a pane.
type paneBounds struct {
	end   time.Time
	span  time.Duration
	total epoch.Count
}

// NewTopK returns an empty TopK of k entries each. A window that is shorter than
// an epoch holds one epoch.
func NewTopK(k int, window time.Duration) *TopK {
	return &TopK{
		window:                window,
		keep:                  max(minCandidates, 4*k),
		flowCandidates:        newCandidates(tableRoom, hashFlow),
		sourceCandidates:      newCandidates(tableRoom, hashAddress),
		destinationCandidates: newCandidates(tableRoom, hashAddress),
		serviceCandidates:     newCandidates(tableRoom, hashService),
		flows:                 newRanking[flow.Key](k, window),
		sources:               newRanking[[16]byte](k, window),
		destinations:          newRanking[[16]byte](k, window),
		services:              newRanking[flow.Service](k, window),
	}
}

// Top returns the top as of the last full pane, nil before the first.
func (t *TopK) Top() *Top { return t.top.Load() }

// Add counts an epoch. Addresses are taken from trimmed, which is e with its smaller
// flows summed up in its ladders, by History: summing them up here once more would
// cost as much as all the rest. trimmed may be e itself. Nothing of either is kept.
func (t *TopK) Add(e, trimmed *epoch.Epoch) {
	t.addFlows(e.Flows)
	t.addAddresses(trimmed)
	t.pane.end = e.End
	t.pane.span += e.End.Sub(e.Start)
	t.pane.total.Add(countedOnce(e))
	if t.pane.span*maxPanes < t.window {
		return
	}
	t.closePane()
	t.expire()
	t.publish()
}

// countedOnce is what the host saw, each packet at one device.
func countedOnce(e *epoch.Epoch) epoch.Count {
	total := e.Total()
	for i := range e.Devices {
		total.Sub(e.Devices[i].Duplicate)
	}
	return total
}

func (t *TopK) addFlows(flows []epoch.Flow) {
	// Flows are already one entry a key: only the largest need a place.
	var largest fold.Cut
	largest, t.scratch = cutAt(flowBytes(flows), t.keep, t.scratch)
	for i := range flows {
		f := &flows[i]
		if largest.Keeps(f.Bytes) {
			t.flowCandidates.add(f.Key, f.Count)
		}
		t.serviceCandidates.add(flow.ServiceOf(&f.Key), f.Count)
	}
}

// addAddresses counts flows, and what gave up its flow but not its address.
func (t *TopK) addAddresses(e *epoch.Epoch) {
	for i := range e.Flows {
		f := &e.Flows[i]
		t.sourceCandidates.add(f.Source, f.Count)
		t.destinationCandidates.add(f.Destination, f.Count)
	}
	ladders := e.Ladders
	for i := range ladders {
		to := &t.sourceCandidates
		if ladders[i].Dimension == flow.Destination {
			to = &t.destinationCandidates
		}
		for _, p := range ladders[i].Entries {
			if p.IsSingleIP() {
				to.add(p.Addr().As16(), p.Count)
			}
		}
	}
}

func (t *TopK) closePane() {
	closeOne(t, &t.flowCandidates, &t.flows)
	closeOne(t, &t.sourceCandidates, &t.sources)
	closeOne(t, &t.destinationCandidates, &t.destinations)
	closeOne(t, &t.serviceCandidates, &t.services)
	t.panes = append(t.panes, t.pane)
	t.pane = paneBounds{}
}

func closeOne[K comparable](t *TopK, from *candidates[K], to *ranking[K]) {
	var largest []counted[K]
	largest, t.scratch = from.take(t.keep, t.scratch)
	to.push(largest)
}

// expire takes panes away that the window doesn't reach back to. Spans are
// compared rather than times, so that a clock that was set changes nothing.
func (t *TopK) expire() {
	var covered time.Duration
	for _, p := range t.panes {
		covered += p.span
	}
	for len(t.panes) > 1 && covered > t.window {
		covered -= t.panes[0].span
		t.panes = t.panes[1:]
		t.flows.pop()
		t.sources.pop()
		t.destinations.pop()
		t.services.pop()
	}
}

func (t *TopK) publish() {
	top := &Top{}
	for _, p := range t.panes {
		top.Span += p.span
		top.Total.Add(p.total)
	}
	now := t.panes[len(t.panes)-1].end
	top.Flows = t.flows.rank(now, top.Total)
	top.Sources = t.sources.rank(now, top.Total)
	top.Destinations = t.destinations.rank(now, top.Total)
	top.Services = t.services.rank(now, top.Total)
	t.top.Store(top)
}
