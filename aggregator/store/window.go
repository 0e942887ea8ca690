package store

import (
	"math"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Window is what the store holds of a span of time. It doesn't change any more;
// its methods may be called concurrently and take their time without holding up
// the store.
type Window struct {
	// The traffic is that between From, where a bucket begins, and To, which isn't
	// in the future.
	From, To time.Time

	Counted   epoch.Count // each packet once
	Remainder epoch.Count // not counted: exporters don't know its flows
	Uncertain epoch.Count // not counted: should be with another host's
	// Not counted, as it can't be told whether the filter selects it.
	Unattributed epoch.Count

	folded, other epoch.Count
	hidden        uint64 // bytes that may be counted nowhere
	doubtful      uint64 // bytes that may be counted twice
	levels        hhh.Levels
	names         []string // of networks
	contents      []*content
	starts        []time.Time // of the contents
	exporters     []*exporter // by id; only their names may be read
	selection     *selection  // of what is filtered; nil for all
	maybe         uint64      // bytes of flows that only may be selected
	whole         uint64      // lost bytes before anything was filtered
	newest        time.Time
}

// usualLag is how far the newest epoch is behind the present at most while all
// is well.
const usualLag = 2 * time.Second

// Last returns the window of so much time, and the part of the current second
// that is known. It ends with the newest epoch, so that a rate over it isn't too
// low by the lag, or now if there was none for a while.
func (s *Store) Last(length time.Duration) *Window { return s.LastInSteps(length, anyStep) }

// LastInSteps is Last for a Series with so long steps. What is in it is summed up in
// advance within the steps only.
func (s *Store) LastInSteps(length, step time.Duration) *Window {
	now := s.now()
	w := s.between(now.Truncate(time.Second).Add(-length), now.Add(s.configuration.Skew), now, step)
	w.To = now
	if now.Sub(w.newest) <= usualLag {
		w.To = w.newest
	}
	return w
}

// Between returns the window from one time to another. Buckets that are partly in
// it are in it as a whole.
func (s *Store) Between(from, to time.Time) *Window { return s.BetweenInSteps(from, to, anyStep) }

// BetweenInSteps is Between for a Series with so long steps, as LastInSteps is Last.
func (s *Store) BetweenInSteps(from, to time.Time, step time.Duration) *Window {
	now := s.now()
	w := s.between(from, to, now, step)
	if to.After(now) {
		w.To = later(w.From, now)
	}
	return w
}

// anyStep says that no Series is wanted.
const anyStep time.Duration = 0

func (s *Store) between(from, to, now time.Time, step time.Duration) *Window {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maintain(now)
	w := &Window{From: from, To: to, levels: s.configuration.Levels, exporters: s.exporters, names: s.names.names}
	covered := int64(math.MinInt64) // up to where spans are in it already
	for _, b := range s.buckets {
		if !b.to().After(from) || !b.from().Before(to) || b.start < covered {
			continue
		}
		if span := s.spans.longest(b.start, from, to, step); span != nil {
			w.add(span.from(), span.content)
			covered = span.start + span.width
			continue
		}
		for _, c := range s.read(b) {
			w.add(b.from(), c)
		}
		if b.from().Before(w.From) {
			w.From = b.from()
		}
	}
	return w
}

// add adds a content of a time.
func (w *Window) add(start time.Time, c *content) {
	w.contents, w.starts = append(w.contents, c), append(w.starts, start)
	w.newest = later(w.newest, c.newest)
	w.Counted.Add(c.counted)
	w.Remainder.Add(c.remainder)
	w.Uncertain.Add(c.uncertain)
	w.folded.Add(c.folded)
	w.other.Add(c.other)
	w.hidden += c.hidden
	w.doubtful += c.doubtful
}

// Seconds is the length of the window.
func (w *Window) Seconds() float64 { return max(w.To.Sub(w.From).Seconds(), 0) }

// Tree sums the window up along the prefixes of one dimension.
func (w *Window) Tree(d flow.Dimension) *hhh.Tree {
	b := hhh.NewBuilder(w.levels)
	for i, c := range w.contents {
		if w.selection == nil {
			b.AddPacked(c.packed.masses[d])
		} else {
			b.Add(slices.Collect(w.masses(i, d)))
		}
	}
	if w.selection != nil && !w.selection.own[d] {
		b.Add([]hhh.Mass{{Count: w.folded}})
	}
	b.AddUnknown(w.unknown())
	b.AddDoubtful(w.doubtful)
	return b.Build()
}

// Distinct returns the estimated number of distinct things in the window, by
// what they are: flows, sources, destinations, ...
func (w *Window) Distinct() map[string]float64 {
	union := make(distinct)
	for _, c := range w.contents {
		union.unpack(c.packed.distinct)
	}
	estimates := make(map[string]float64, len(union))
	for of, s := range union {
		estimates[of] = s.Estimate()
	}
	return estimates
}

// Resolution returns the width of the buckets of a time.
func (s *Store) Resolution(t time.Time) time.Duration {
	if t.Before(s.now().Add(-s.configuration.Fine)) {
		return coarse * time.Second
	}
	return time.Second
}
