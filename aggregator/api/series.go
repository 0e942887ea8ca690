package api

import (
	"time"

	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// The points of a series, and how many prefixes have one.
const (
	defaultPoints, maxPoints = 300, 3600
	defaultSeries, maxSeries = 20, 100
)

// series is the answer of GET /v1/series. At each of the times the conditioned bytes
// of all series and rest add up to total_bytes.
type series struct {
	period
	Dimension   string  `json:"dimension"`
	Phi         float64 `json:"phi"`
	StepSeconds float64 `json:"step_seconds"`
	totals
	Times        []time.Time    `json:"times"`
	TotalBytes   []uint64       `json:"total_bytes"`
	TotalPackets []uint64       `json:"total_packets"`
	RestBytes    []uint64       `json:"rest_bytes"`
	Series       []prefixSeries `json:"series"`
}

type prefixSeries struct {
	Prefix      string   `json:"prefix"`
	Bytes       []uint64 `json:"bytes"`
	Conditioned []uint64 `json:"conditioned_bytes"`
}

// table is a line for each prefix and time; the total has the prefix all in it, if that
// isn't one of the series, and the rest the prefix rest.
func (s series) table() table {
	t := table{header: []string{"time", "prefix", "bytes", "conditioned_bytes"}}
	for i, at := range s.Times {
		for _, p := range s.Series {
			t.rows = append(t.rows, []string{instant(at), p.Prefix, number(p.Bytes[i]), number(p.Conditioned[i])})
		}
		t.rows = append(t.rows, []string{instant(at), "rest", number(s.RestBytes[i]), number(s.RestBytes[i])})
	}
	return t
}

// seriesQuery is the parameters of GET /v1/series.
type seriesQuery struct {
	question
	dimension flow.Dimension
	phi       float64
	limit     int
	points    int
	step      time.Duration // 0 for as short as the points allow
}

func (a *API) series(p *parameters) (answer, error) {
	q := seriesQuery{
		question: a.question(p), dimension: p.dimension(), phi: p.share("phi", a.configuration.Phi, leastShare),
		limit: p.count("limit", defaultSeries, maxSeries), points: p.count("points", defaultPoints, maxPoints),
		step: p.duration("step", 0, time.Second, a.configuration.Retention),
	}
	if q.step%time.Second != 0 {
		p.refuse("step", "%q has a fraction of a second; allowed: whole seconds", model.Duration(q.step))
	}
	return func() (any, error) { return a.seriesOf(q), nil }, p.finish()
}

func (a *API) seriesOf(q seriesQuery) series {
	snap, step := a.inSteps(q)
	w := snap.window()
	var prefixes []hhh.Prefix
	for _, h := range snap.trees[q.dimension]().Heavy(q.phi) {
		if len(prefixes) < q.limit {
			prefixes = append(prefixes, h.Prefix)
		}
	}
	sums := w.Series(q.dimension, prefixes, step)
	answer := series{
		period: periodOf(w), Dimension: q.dimension.String(), Phi: q.phi, StepSeconds: step.Seconds(), totals: totalsOf(w),
		Times: sums.Times, RestBytes: sums.Rest, Series: []prefixSeries{},
	}
	answer.setTotals(sums.Total, w)
	for _, p := range sums.Prefixes {
		answer.Series = append(answer.Series, prefixSeries{p.String(), p.Bytes, p.Conditioned})
	}
	return answer
}

// inSteps returns what a series is about, and its steps. Those follow from the window,
// which may have grown by the time that it is made for them.
func (a *API) inSteps(q seriesQuery) (*snapshot, time.Duration) {
	step := a.step(q, a.snapshot(q.question).window())
	for {
		snap := a.snapshotInSteps(q.question, step)
		longer := a.step(q, snap.window())
		if longer <= step {
			return snap, step
		}
		step = longer
	}
}

// setTotals has the total be that of the steps; what the window counts beyond can't be
// told when it was.
func (s *series) setTotals(steps []epoch.Count, w *store.Window) {
	var sum epoch.Count
	for _, step := range steps {
		sum.Add(step)
		s.TotalBytes, s.TotalPackets = append(s.TotalBytes, step.Bytes), append(s.TotalPackets, step.Packets)
	}
	s.Total = countOf(sum)
	s.Unattributed.Bytes += w.Counted.Bytes - sum.Bytes
	s.Unattributed.Packets += w.Counted.Packets - sum.Packets
}

// step returns how long the steps are: as asked for, but not shorter than the points
// and the store's own resolution at that age allow, and a multiple of the latter.
func (a *API) step(q seriesQuery, w *store.Window) time.Duration {
	unit := a.store.Resolution(w.From)
	least := w.To.Sub(w.From) / time.Duration(max(q.points-1, 1))
	if q.points == 1 {
		least *= 2 // whatever the first begins with
	}
	step := max(q.step, least, unit)
	return (step + unit - 1) / unit * unit
}
