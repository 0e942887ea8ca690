package window

import (
	"encoding/binary"
	"iter"
	"maps"
	"sync/atomic"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/networks"
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
	Named        *Named // nil unless Name was called
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

	watched watch // the flows that are entries

	k      int
	naming atomic.Pointer[networks.Table] // nil for none
	named  *named                         // nil for none

	top atomic.Pointer[Top]
}

// paneBounds is what all rankings share of a pane.
type paneBounds struct {
	span      time.Duration
	total     epoch.Count
	remainder uint64 // bytes
	// What the epochs lack.
	flows, sources, destinations, services limits
}

// NewTopK returns an empty TopK of k entries each. A window that is shorter than
// an epoch holds one epoch.
func NewTopK(k int, window time.Duration) *TopK {
	return &TopK{
		k:                     k,
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

// Name has names of networks and services counted, too, or not any more if table is
// nil, from the next pane on. It is safe for concurrent use.
func (t *TopK) Name(table *networks.Table) { t.naming.Store(table) }

// Add counts an epoch. Addresses are taken from trimmed, which is e with its smaller
// flows summed up in its ladders, by History: summing them up here once more would
// cost as much as all the rest. trimmed may be e itself. Nothing of either is kept.
func (t *TopK) Add(e, trimmed *epoch.Epoch) {
	if t.pane.span == 0 {
		t.applyNaming()
	}
	t.addFlows(e.Flows)
	t.addAddresses(trimmed)
	t.addLimits(e, trimmed)
	if t.named != nil {
		t.named.add(e)
	}
	t.pane.span += e.End.Sub(e.Start)
	t.pane.total.Add(countedOnce(e))
	if t.pane.span*maxPanes < t.window {
		return
	}
	t.closePane()
	t.expire()
	t.publish()
}

func (t *TopK) applyNaming() {
	table := t.naming.Load()
	switch {
	case table == nil:
		t.named = nil
		return
	case t.named == nil:
		t.named = newNamed(t.k, t)
	case t.named.table == table:
		return
	}
	t.named.setTable(table)
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
	// Flows are already one entry a key: only the largest need a place, and those
	// that have a series.
	var largest fold.Cut
	largest, t.scratch = cutAt(flowBytes(flows), t.keep, t.scratch)
	t.pane.flows.left += largest.Threshold
	for i := range flows {
		f := &flows[i]
		if largest.Keeps(f.Bytes) || t.watched.has(&f.Key) && t.flows.entries[f.Key] != nil {
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

// addLimits notes what an epoch doesn't say of one key: what was folded, and what
// the ring buffer had no room for.
func (t *TopK) addLimits(e, trimmed *epoch.Epoch) {
	unknown := e.Remainder().Bytes
	t.pane.remainder += unknown
	t.pane.services.missed += unknown + e.Folded(flow.Source).Bytes
	t.pane.flows.missed += unknown + min(foldedOfOne(e.Ladders, flow.Source, true), foldedOfOne(e.Ladders, flow.Destination, true))
	t.pane.sources.missed += unknown + foldedOfOne(trimmed.Ladders, flow.Source, false)
	t.pane.destinations.missed += unknown + foldedOfOne(trimmed.Ladders, flow.Destination, false)
}

// foldedOfOne bounds what ladders may hold of one address: with whole, under the
// address itself too. An address is in one prefix of each length.
func foldedOfOne(ladders []epoch.Ladder, d flow.Dimension, whole bool) (bytes uint64) {
	for i := range ladders {
		if ladders[i].Dimension != d {
			continue
		}
		var largest [129]uint64 // by length
		for j := range ladders[i].Entries {
			if p := &ladders[i].Entries[j]; whole || !p.IsSingleIP() {
				largest[p.Bits()] = max(largest[p.Bits()], p.Bytes)
			}
		}
		for _, n := range largest {
			bytes += n
		}
	}
	return bytes
}

func (t *TopK) closePane() {
	closeOne(t, &t.flowCandidates, &t.flows, t.pane.flows)
	closeOne(t, &t.sourceCandidates, &t.sources, t.pane.sources)
	closeOne(t, &t.destinationCandidates, &t.destinations, t.pane.destinations)
	closeOne(t, &t.serviceCandidates, &t.services, t.pane.services)
	if t.named != nil {
		t.scratch = t.named.closePane(&t.pane, t.keep, t.scratch)
	}
	t.panes = append(t.panes, t.pane)
	t.pane = paneBounds{}
}

func closeOne[K comparable](t *TopK, from *candidates[K], to *ranking[K], lacks limits) {
	var p pane[K]
	p, t.scratch = from.take(t.keep, maps.Keys(to.entries), t.scratch)
	p.missed += lacks.missed
	p.left += lacks.left
	p.span = t.pane.span
	to.push(p)
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
		if t.named != nil {
			t.named.pop()
		}
	}
}

func (t *TopK) publish() {
	top := &Top{}
	for _, p := range t.panes {
		top.Span += p.span
		top.Total.Add(p.total)
	}
	top.Flows = t.flows.rank(top.Total)
	top.Sources = t.sources.rank(top.Total)
	top.Destinations = t.destinations.rank(top.Total)
	top.Services = t.services.rank(top.Total)
	if t.named != nil {
		top.Named = t.named.rank(top.Total)
	}
	t.watched.set(maps.Keys(t.flows.entries))
	t.top.Store(top)
}

// watch says of most flows that they aren't in a small set, faster than a map does.
type watch [1 << 12 / 64]uint64

func (w *watch) set(keys iter.Seq[flow.Key]) {
	*w = watch{}
	for key := range keys {
		place := watchPlace(&key)
		w[place/64] |= 1 << (place % 64)
	}
}

func (w *watch) has(key *flow.Key) bool {
	place := watchPlace(key)
	return w[place/64]>>(place%64)&1 != 0
}

// watchPlace mixes what differs most between flows. It isn't seeded: keys that were
// made to collide cost a look at the map each, and no more.
func watchPlace(key *flow.Key) uint32 {
	x := binary.LittleEndian.Uint32(key.Source[12:])*3 ^ binary.LittleEndian.Uint32(key.Destination[12:])
	x ^= uint32(key.SourcePort)<<16 | uint32(key.DestinationPort)
	return x * 0x9e3779b1 >> 20
}
