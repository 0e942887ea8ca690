package store

import (
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Series is a window's traffic over time, in steps of equal length. In each step the
// Conditioned bytes of all prefixes and Rest add up to Total.
type Series struct {
	Times    []time.Time // when the steps begin
	Total    []epoch.Count
	Rest     []uint64 // bytes that are below none of the prefixes
	Prefixes []PrefixSeries
}

// PrefixSeries is one prefix's traffic over time, in bytes.
type PrefixSeries struct {
	hhh.Prefix
	Bytes       []uint64 // at and below it
	Conditioned []uint64 // less those below others of the prefixes that are below it
}

// Series sums up the window by steps and by some prefixes of a dimension. What began
// before the first step, which begins at a multiple of the step, is in the first.
// A bucket is in the step in which it begins: steps should be no shorter, and those that
// the window was made for, if it is longer than some seconds (LastInSteps). Of a window
// that was filtered by an address of the other dimension, what has no flow isn't in
// the series.
func (w *Window) Series(d flow.Dimension, prefixes []hhh.Prefix, step time.Duration) Series {
	s := newSummation(w.From, w.To, step, prefixes)
	for i := range w.contents {
		at := s.step(w.starts[i])
		for m := range w.masses(i, d) {
			s.add(at, &m)
		}
	}
	s.addAncestors()
	return s.Series
}

// summation is a Series in the making.
type summation struct {
	Series
	from    time.Time
	width   time.Duration
	lengths [3][]int // of the prefixes of each family, descending
	at      map[hhh.Prefix]int
}

func newSummation(from, to time.Time, step time.Duration, prefixes []hhh.Prefix) *summation {
	s := &summation{from: from.Truncate(step), width: step, at: make(map[hhh.Prefix]int, len(prefixes))}
	for t := s.from; len(s.Times) == 0 || t.Before(to); t = t.Add(step) {
		s.Times = append(s.Times, t.UTC())
	}
	n := len(s.Times)
	s.Total, s.Rest = make([]epoch.Count, n), make([]uint64, n)
	for _, p := range prefixes {
		s.at[p] = len(s.Prefixes)
		s.Prefixes = append(s.Prefixes, PrefixSeries{Prefix: p, Bytes: make([]uint64, n), Conditioned: make([]uint64, n)})
		if lengths := &s.lengths[p.Family()]; !slices.Contains(*lengths, p.Length()) {
			*lengths = append(*lengths, p.Length())
		}
	}
	for _, lengths := range s.lengths {
		slices.SortFunc(lengths, func(a, b int) int { return b - a })
	}
	return s
}

// step returns the number of the step that a time is in. Buckets of hosts whose clocks
// are ahead are in the last.
func (s *summation) step(t time.Time) int {
	return min(max(int(t.Sub(s.from)/s.width), 0), len(s.Times)-1)
}

// add adds a mass to the longest of the prefixes that it is below.
func (s *summation) add(step int, m *hhh.Mass) {
	s.Total[step].Add(m.Count)
	if i := s.longest(m.Prefix, m.Length()); i >= 0 {
		s.Prefixes[i].Conditioned[step] += m.Bytes
	} else {
		s.Rest[step] += m.Bytes
	}
}

// longest returns the longest of the prefixes, not longer than a length, that p is
// below; -1 if there is none.
func (s *summation) longest(p hhh.Prefix, length int) int {
	for _, l := range s.lengths[p.Family()] {
		if l > length {
			continue
		}
		if i, ok := s.at[p.Truncate(l)]; ok {
			return i
		}
	}
	if i, ok := s.at[hhh.Prefix{}]; ok && p.Family() != hhh.Any {
		return i
	}
	return -1
}

// addAncestors makes the bytes of each prefix of the conditioned ones of all that are
// below it.
func (s *summation) addAncestors() {
	for i := range s.Prefixes {
		for at := i; at >= 0; at = s.parent(s.Prefixes[at].Prefix) {
			for step, bytes := range s.Prefixes[i].Conditioned {
				s.Prefixes[at].Bytes[step] += bytes
			}
		}
	}
}

func (s *summation) parent(p hhh.Prefix) int {
	if p.Family() == hhh.Any {
		return -1
	}
	return s.longest(p, p.Length()-1)
}
