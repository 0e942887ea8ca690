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

// TopFlows returns the k flows with the most bytes, descending.
func (w *Window) TopFlows(k int) []Ranked[flow.Key] {
	return top(w, k, func(key *flow.Key) flow.Key { return *key }, func(a, b flow.Key) int { return compareKeys(&a, &b) })
}

// TopServices returns the k services with the most bytes, descending.
func (w *Window) TopServices(k int) []Ranked[flow.Service] {
	return top(w, k, flow.ServiceOf, func(a, b flow.Service) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
}

// top ranks the window's flows by what of finds in their keys. Equal ranks are
// in the order of compare.
func top[K comparable](w *Window, k int, of func(*flow.Key) K, compare func(a, b K) int) []Ranked[K] {
	sums := make(map[K]epoch.Count)
	for _, c := range w.contents {
		for i := range c.flows {
			key := of(&c.flows[i].Key)
			sum := sums[key]
			sum.Add(c.flows[i].Count)
			sums[key] = sum
		}
	}
	// Whatever gave up its flow, or never had one, may belong to any of them.
	lost := w.folded.Bytes + w.other.Bytes + w.Remainder.Bytes + w.Uncertain.Bytes
	ranked := make([]Ranked[K], 0, len(sums))
	for key, sum := range sums {
		ranked = append(ranked, Ranked[K]{Key: key, Count: sum, Lower: sum.Bytes, Upper: sum.Bytes + lost})
	}
	slices.SortFunc(ranked, func(a, b Ranked[K]) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), compare(a.Key, b.Key))
	})
	return ranked[:min(k, len(ranked))]
}
