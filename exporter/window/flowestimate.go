package window

import (
	"context"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// FlowEstimates are what is known of some flows over some epochs in a row.
type FlowEstimates struct {
	Host     string
	From, To time.Time // both zero if there is no epoch yet
	Epochs   int
	Total    epoch.Count // of all flows, each packet counted once
	// Unaccounted is the two sides' difference; it wraps around, and is always 0.
	Unaccounted epoch.Count
	// Lost is the bytes of all flows whose flow isn't known. They may be any one's.
	Lost  uint64
	Flows []FlowEstimate // in the order that was asked for
}

// FlowEstimate is one of FlowEstimates.
type FlowEstimate struct {
	// Counted is what was counted under the flow's own key.
	Counted epoch.Count
	// Doubtful is what of these bytes may be counted twice.
	Doubtful uint64
	// Uncounted is at least the bytes of the flow that were counted under a prefix.
	Uncounted uint64
}

// Interval holds the bytes of the i-th flow, always.
func (f *FlowEstimates) Interval(i int) epoch.Interval {
	one := &f.Flows[i]
	return epoch.Interval{Lower: one.Counted.Bytes - one.Doubtful, Upper: one.Counted.Bytes + one.Uncounted + f.Lost}
}

// Estimate bounds flows over the last epochs of the History, as far back as the window,
// or the History, reaches. It takes the time of decoding these epochs, one or
// two milliseconds each, and holds no lock meanwhile. The context's error ends it.
//
// Each epoch that went out has a flow under its key, then its bytes but for its
// error are known, or has not. What of the flow isn't under its key is under prefixes
// of its source and under prefixes of its destination, so that the sum of those is a
// bound, the smaller one the better. The FlowSketch has another one for several epochs
// together. A third is that a flow that didn't go out is no larger than the smallest
// that did, but for what was folded before the end of an epoch.
func (s *FlowSketch) Estimate(ctx context.Context, keys []flow.Key, window time.Duration) (FlowEstimates, error) {
	f := FlowEstimates{Flows: make([]FlowEstimate, len(keys))}
	panes := make([]paneSums, len(keys))
	for i := range keys {
		panes[i] = newPaneSums(s.bounds(&keys[i]))
	}
	for _, m := range s.history.last(window) {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		e, err := m.decodeCounts()
		if err != nil {
			return f, err
		}
		f.count(e)
		for i := range keys {
			f.Flows[i].add(panes[i].of(e.Sequence).add(e, &keys[i]))
		}
	}
	for i := range keys {
		f.Flows[i].Uncounted = panes[i].uncounted()
	}
	return f, nil
}

// add adds what an epoch has of the flow, if it has.
func (f *FlowEstimate) add(of *epoch.Flow) {
	if of != nil {
		f.Counted.Add(of.Count)
		f.Doubtful += of.Doubtful
	}
}

// count notes what all flows of an epoch have in common.
func (f *FlowEstimates) count(e *epoch.Epoch) {
	if f.Epochs == 0 {
		f.Host, f.From = e.Host, e.Start
	}
	f.To = e.End
	f.Epochs++
	f.Total.Add(countedOnce(e))
	f.Unaccounted.Add(e.Unaccounted(flow.Source))
	f.Lost += e.Remainder().Bytes + e.Hidden.Bytes
}

// paneSums are the sums of a flow by pane of the FlowSketch; the last one is for
// epochs that no pane is about.
type paneSums struct {
	bounds []flowBounds
	sums   []paneSum
}

func newPaneSums(bounds []flowBounds) paneSums {
	return paneSums{bounds, make([]paneSum, len(bounds)+1)}
}

func (p *paneSums) of(sequence uint64) *paneSum {
	for i, b := range p.bounds {
		if b.first <= sequence && sequence <= b.last {
			return &p.sums[i]
		}
	}
	return &p.sums[len(p.bounds)]
}

func (p *paneSums) uncounted() uint64 {
	sum := p.sums[len(p.bounds)].prefixes
	for i := range p.bounds {
		sum += p.sums[i].uncounted(&p.bounds[i])
	}
	return sum
}

// paneSum is what epochs of a pane say of a flow's bytes that aren't under its key.
type paneSum struct {
	prefixes uint64 // bound by the prefixes that hold it, and by its error
	smallest uint64 // bound by the smallest flows, but for folded, and by its error
}

// add takes an epoch and returns what it has under the flow's key, nil if nothing.
func (p *paneSum) add(e *epoch.Epoch, key *flow.Key) *epoch.Flow {
	prefixes := func() uint64 { return min(above(e, flow.Source, key), above(e, flow.Destination, key)) }
	i := slices.IndexFunc(e.Flows, func(f epoch.Flow) bool { return f.Key == *key })
	if i < 0 {
		bound := prefixes()
		p.prefixes += bound
		p.smallest += min(bound, smallestFlow(e.Flows))
		return nil
	}
	f := &e.Flows[i]
	if f.Error > 0 {
		bound := min(prefixes(), f.Error)
		p.prefixes += bound
		p.smallest += bound
	}
	return f
}

func (p *paneSum) uncounted(b *flowBounds) uint64 {
	return min(p.prefixes, b.estimate, p.smallest+b.folded)
}

// above is what was folded into prefixes of a flow's address.
func above(e *epoch.Epoch, d flow.Dimension, key *flow.Key) (bytes uint64) {
	address := key.Addr(d)
	for i := range e.Ladders {
		if e.Ladders[i].Dimension != d {
			continue
		}
		for j := range e.Ladders[i].Entries {
			if p := &e.Ladders[i].Entries[j]; p.Contains(address) {
				bytes += p.Bytes
			}
		}
	}
	return bytes
}

// last returns the messages of a time before the end of the newest, oldest first.
func (h *History) last(window time.Duration) []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Message
	for i := len(h.epochs) - 1; i >= 0; i-- {
		if len(all) > 0 && h.epochs[len(h.epochs)-1].end.Sub(h.epochs[i].end) >= window {
			break
		}
		all = append(all, h.epochs[i].message)
	}
	slices.Reverse(all)
	return all
}

func (m Message) decodeCounts() (*epoch.Epoch, error) {
	answer, err := m.Decompress(nil)
	if err != nil {
		return nil, err
	}
	return epoch.DecodeCounts(answer)
}
