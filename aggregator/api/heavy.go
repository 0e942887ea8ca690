package api

import (
	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// leastShare bounds how many heavy hitters there can be.
const leastShare = 0.0001

// pairs is the dimension of source and destination together.
const pairs = "source_destination"

// heavyHitter is one of GET /v1/hhh: a prefix, or one of each end.
type heavyHitter struct {
	Prefix      string `json:"prefix,omitempty"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	Bytes       uint64 `json:"bytes"`
	Conditioned uint64 `json:"conditioned_bytes"`
	Packets     uint64 `json:"packets"`
	interval
}

func heavyHitterOf(h hhh.Heavy) heavyHitter {
	return heavyHitter{
		Prefix: h.String(), Bytes: h.Bytes, Conditioned: h.Conditioned, Packets: h.Packets,
		interval: interval{h.Lower, h.Upper},
	}
}

func heavyPairOf(h hhh.HeavyPair) heavyHitter {
	return heavyHitter{
		Source: h.Source.String(), Destination: h.Destination.String(),
		Bytes: h.Bytes, Conditioned: h.Conditioned, Packets: h.Packets,
		interval: interval{h.Lower, h.Upper},
	}
}

// heavyHitters is the answer of GET /v1/hhh.
type heavyHitters struct {
	period
	Dimension string  `json:"dimension"`
	Phi       float64 `json:"phi"`
	totals
	HeavyHitters []heavyHitter `json:"heavy_hitters"`
}

func (h heavyHitters) table() table {
	t := table{header: []string{"prefix", "bytes", "conditioned_bytes", "packets", "lower", "upper"}}
	if h.Dimension == pairs {
		t.header = append([]string{"source", "destination"}, t.header[1:]...)
	}
	for _, x := range h.HeavyHitters {
		names := []string{x.Prefix}
		if h.Dimension == pairs {
			names = []string{x.Source, x.Destination}
		}
		t.rows = append(t.rows, append(names, number(x.Bytes), number(x.Conditioned), number(x.Packets), number(x.Lower), number(x.Upper)))
	}
	return t
}

// heavyQuery is the parameters of GET /v1/hhh.
type heavyQuery struct {
	question
	dimension string
	phi       float64
	least     float64
}

func (a *API) heavyQuery(p *parameters, q question) heavyQuery {
	return heavyQuery{
		question: q, dimension: p.choice("dimension", flow.Source.String(), flow.Destination.String(), pairs),
		phi: p.share("phi", a.configuration.Phi, leastShare), least: p.share("min_share", 0, 0),
	}
}

func (a *API) hhh(p *parameters) (answer, error) {
	q := a.heavyQuery(p, a.question(p))
	return func() (any, error) { return a.heavy(q), nil }, p.finish()
}

func (a *API) heavy(q heavyQuery) heavyHitters {
	snap := a.snapshot(q.question)
	window := snap.window()
	answer := heavyHitters{period: periodOf(window), Dimension: q.dimension, Phi: q.phi, totals: totalsOf(window), HeavyHitters: []heavyHitter{}}
	for _, h := range q.find(snap) {
		if h.Bytes >= hhh.Threshold(q.least, window.Counted.Bytes) {
			answer.HeavyHitters = append(answer.HeavyHitters, h)
		}
	}
	return answer
}

func (q *heavyQuery) find(snap *snapshot) (found []heavyHitter) {
	if q.dimension == pairs {
		for _, h := range snap.window().HeavyPairs(q.phi) {
			found = append(found, heavyPairOf(h))
		}
		return found
	}
	d, _ := flow.ParseDimension(q.dimension)
	for _, h := range snap.trees[d]().Heavy(q.phi) {
		found = append(found, heavyHitterOf(h))
	}
	return found
}
