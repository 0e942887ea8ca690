package store

import (
	"cmp"
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// NetworkTraffic is what was from one named network to another in a window, in an
// interval of bytes that contains the truth. Either may be networks.Unnamed, or
// networks.Unknown, to which nothing is for certain: its lower bound is 0.
type NetworkTraffic struct {
	NetworkCount
	Lower, Upper uint64
}

// Networks returns the matrix of the window's traffic by the networks of both ends,
// without pairs that have none, most bytes first. It adds up to all that is counted.
// Networks have the names that they had at the time.
func (w *Window) Networks() []NetworkTraffic {
	var sum matrix
	contents := make([]*matrix, len(w.contents))
	for i, c := range w.contents {
		contents[i] = c.matrix()
		sum.add(contents[i])
	}
	possible := w.possible(contents)
	lost := w.Remainder.Bytes + w.Uncertain.Bytes + w.hidden
	all := make([]NetworkTraffic, len(sum.cells))
	for i := range sum.cells {
		c := &sum.cells[i]
		all[i] = NetworkTraffic{
			NetworkCount: NetworkCount{NetworkPair{w.names[c.source], w.names[c.destination]}, c.Count},
			Upper:        c.Bytes + lost,
		}
		if c.source != unknown && c.destination != unknown {
			all[i].Lower = c.Bytes - min(c.Bytes, c.doubtful)
			all[i].Upper += possible(c.pair) - c.certain.Bytes
		}
	}
	slices.SortFunc(all, func(a, b NetworkTraffic) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination))
	})
	return all
}

// possible returns a function that says how many bytes that have no flow may be from
// one network to another: in each content no more than are from the one, and than are
// to the other, those counted whose network is unknown.
func (w *Window) possible(contents []*matrix) func(pair) uint64 {
	rest := make([][len(flow.Dimensions)][]uint64, 0, len(contents))
	for _, m := range contents {
		var bytes [len(flow.Dimensions)][]uint64
		for d := range bytes {
			bytes[d] = make([]uint64, len(w.names))
			for _, r := range m.rest[d] {
				bytes[d][r.network] = r.Bytes
			}
		}
		if len(m.rest[flow.Source]) > 0 {
			rest = append(rest, bytes)
		}
	}
	return func(p pair) (bytes uint64) {
		for i := range rest {
			from, to := rest[i][flow.Source], rest[i][flow.Destination]
			bytes += min(from[p.source]+from[unknown], to[p.destination]+to[unknown])
		}
		return bytes
	}
}
