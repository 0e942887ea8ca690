package store

import (
	"cmp"
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
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
	for f := range w.flows() {
		key, spared := of(f)
		sum := sums[key]
		sum.Add(f.Count)
		sum.doubtful += f.doubtful
		sum.spared += spared
		sums[key] = sum
	}
	ranked := make([]Ranked[K], 0, len(sums))
	for key, sum := range sums {
		ranked = append(ranked, Ranked[K]{
			Key: key, Count: sum.Count, Lower: sum.Bytes - sum.doubtful, Upper: sum.Bytes + w.missing(sum.spared),
		})
	}
	slices.SortFunc(ranked, func(a, b Ranked[K]) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), compare(a.Key, b.Key))
	})
	return ranked[:min(k, len(ranked))]
}

// TopProtocols returns the k protocols with the most bytes, descending.
func (w *Window) TopProtocols(k int) []Ranked[uint8] {
	return top(w, k, cmp.Compare[uint8], func(f *counted) (key uint8, spared uint64) { return f.Protocol, 0 })
}

// Several is the exporter of flows of which several hosts counted a part.
const Several = "several"

// TopExporters returns the k exporters that counted the most bytes of flows,
// descending.
func (w *Window) TopExporters(k int) []Ranked[string] {
	return top(w, k, cmp.Compare[string], func(f *counted) (key string, spared uint64) {
		if f.exporter == severalExporters {
			return Several, 0
		}
		return w.exporters[f.exporter].name, 0
	})
}

// NetworkPair is the names of the networks of a flow's two ends.
type NetworkPair struct{ Source, Destination string }

// TopNetworks returns the k pairs of named networks with the most bytes, descending. All
// of them add up to what is counted.
func (w *Window) TopNetworks(table *networks.Table, k int) []Ranked[NetworkPair] {
	compare := func(a, b NetworkPair) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination))
	}
	ranked := top(w, k, compare, func(f *counted) (key NetworkPair, spared uint64) {
		return NetworkPair{table.Name(table.Lookup(f.SourceAddr())), table.Name(table.Lookup(f.DestinationAddr()))}, 0
	})
	flowless := w.Flowless()
	if flowless.Bytes == 0 {
		return ranked
	}
	at, _ := slices.BinarySearchFunc(ranked, flowless.Bytes, func(r Ranked[NetworkPair], bytes uint64) int { return cmp.Compare(bytes, r.Bytes) })
	unknown := Ranked[NetworkPair]{NetworkPair{networks.Unknown, networks.Unknown}, flowless, 0, flowless.Bytes + w.unknown()}
	ranked = slices.Insert(ranked, at, unknown)
	return ranked[:min(k, len(ranked))]
}

// Flowless is what of Counted isn't under any flow, and so in no rank of flows,
// services, protocols, exporters and networks.
func (w *Window) Flowless() epoch.Count {
	sum := w.folded
	sum.Add(w.other)
	return sum
}
