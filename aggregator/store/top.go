package store

import (
	"cmp"
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Ranked is a flow or a service and its traffic in a window, in an interval of
// bytes that contains the truth.
type Ranked[K comparable] struct {
	Key K
	epoch.Count
	Lower, Upper uint64
}

// TopFlows returns the k flows with the most bytes, descending. Of an epoch that
// lists a flow it is known how much of it may be elsewhere.
func (w *Window) TopFlows(k int) []Ranked[flow.Key] {
	compare := func(a, b flow.Key) int { return compareKeys(&a, &b) }
	return top(w, k, compare, func(f *counted) (key flow.Key, spared uint64) { return f.Key, f.spared })
}

// TopServices returns the k services with the most bytes, descending. What isn't of
// one of a service's flows may be of another.
func (w *Window) TopServices(k int) []Ranked[flow.Service] {
	compare := func(a, b flow.Service) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	}
	return top(w, k, compare, func(f *counted) (key flow.Service, spared uint64) { return flow.ServiceOf(&f.Key), 0 })
}

// share is what a window holds of something.
type share struct {
	epoch.Count
	doubtful, spared uint64
}

// top ranks the window's flows by the keys that of finds in them. Equal ranks are
// in the order of compare.
func top[K comparable](w *Window, k int, compare func(a, b K) int, of func(*counted) (key K, spared uint64)) []Ranked[K] {
	sums := make(map[K]share)
	for _, c := range w.contents {
		for f := range c.allFlows() {
			key, spared := of(f)
			sum := sums[key]
			sum.Add(f.Count)
			sum.doubtful += f.doubtful
			sum.spared += spared
			sums[key] = sum
		}
	}
	// Whatever gave up its flow, or never had one, may belong to any of them.
	lost := w.folded.Bytes + w.other.Bytes + w.Remainder.Bytes + w.Uncertain.Bytes + w.hidden
	ranked := make([]Ranked[K], 0, len(sums))
	for key, sum := range sums {
		ranked = append(ranked, Ranked[K]{
			Key: key, Count: sum.Count, Lower: sum.Bytes - sum.doubtful, Upper: sum.Bytes + lost - min(lost, sum.spared),
		})
	}
	slices.SortFunc(ranked, func(a, b Ranked[K]) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), compare(a.Key, b.Key))
	})
	return ranked[:min(k, len(ranked))]
}
