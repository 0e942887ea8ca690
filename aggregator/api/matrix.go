package api

import (
	"maps"
	"slices"

	"github.com/traffic-monitor-agent/tma/aggregator/store"
)

// networkPair is one of GET /v1/matrix.
type networkPair struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	count
	interval
}

// matrix answers how much was from each named network to each other one, those that
// are unnamed included, and those that aren't known because the flow was folded. The
// pairs add up to the total; those without traffic are missing.
func (a *API) matrix(p *parameters) (any, error) {
	s := a.span(p)
	if err := p.finish(); err != nil {
		return nil, err
	}
	snap := a.snapshot(s)
	traffic := snap.networks()
	pairs := make([]networkPair, len(traffic))
	for i := range traffic {
		pairs[i] = networkPairOf(&traffic[i])
	}
	return struct {
		period
		totals
		Networks []string      `json:"networks"`
		Matrix   []networkPair `json:"matrix"`
	}{periodOf(snap.window()), totalsOf(snap.window()), networkNames(traffic), pairs}, nil
}

func networkPairOf(t *store.NetworkTraffic) networkPair {
	return networkPair{t.Source, t.Destination, countOf(t.Count), interval{t.Lower, t.Upper}}
}

// networkNames lists the networks that a matrix is about.
func networkNames(traffic []store.NetworkTraffic) []string {
	names := make(map[string]bool)
	for i := range traffic {
		names[traffic[i].Source], names[traffic[i].Destination] = true, true
	}
	return append([]string{}, slices.Sorted(maps.Keys(names))...)
}
