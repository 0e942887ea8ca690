package api

import (
	"cmp"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/aggregator/scrape"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// defaultWindow is the time that a request is about which doesn't say.
const defaultWindow = time.Minute

// count is packets and bytes in JSON.
type count struct {
	Bytes   uint64 `json:"bytes"`
	Packets uint64 `json:"packets"`
}

func countOf(c epoch.Count) count { return count{Bytes: c.Bytes, Packets: c.Packets} }

// period is the beginning of every answer about a window.
type period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

func periodOf(w *store.Window) period { return period{w.From.UTC(), w.To.UTC()} }

// totals is what a window counts, and what it can't.
type totals struct {
	Total     count `json:"total"`
	Remainder count `json:"remainder"`
	Uncertain count `json:"uncertain"`
	// What may be selected by the filter, but can't be told to be.
	Unattributed count `json:"unattributed"`
}

func totalsOf(w *store.Window) totals {
	return totals{countOf(w.Counted), countOf(w.Remainder), countOf(w.Uncertain), countOf(w.Unattributed)}
}

// interval is the bytes between which the truth is.
type interval struct {
	Lower uint64 `json:"lower"`
	Upper uint64 `json:"upper"`
}

// question is the beginning of most requests: a time, and flows in it.
type question struct {
	span
	filter
}

func (a *API) question(p *parameters) question {
	return question{p.span(defaultWindow, a.configuration.Retention), a.filter(p)}
}

// snapshot returns what a question is about.
func (a *API) snapshot(q question) *snapshot { return a.snapshotInSteps(q, 0) }

// snapshotInSteps returns what a series with so long steps is about.
func (a *API) snapshotInSteps(q question, step time.Duration) *snapshot {
	if q.last > 0 {
		return a.memo.last(q.last, step, q.filter)
	}
	if oldest := a.now().Add(-a.configuration.Retention); q.from.Before(oldest) {
		q.from = oldest
	}
	return a.memo.between(q.from, q.to, step, q.filter)
}

// estimate is one of GET /v1/cardinality.
type estimate struct {
	Of            string  `json:"of"`
	Estimate      uint64  `json:"estimate"`
	RelativeError float64 `json:"relative_error"`
}

// cardinalities is the answer of GET /v1/cardinality.
type cardinalities struct {
	Window string `json:"window"`
	period
	Estimates []estimate `json:"estimates"`
}

func (c cardinalities) table() table {
	t := table{header: []string{"of", "estimate", "relative_error"}}
	for _, e := range c.Estimates {
		t.rows = append(t.rows, []string{e.Of, number(e.Estimate), fraction(e.RelativeError)})
	}
	return t
}

func (a *API) cardinality(p *parameters) (answer, error) {
	q := question{span: p.span(defaultWindow, a.configuration.Retention)}
	for _, name := range filterParameters {
		if p.values.Has(name) {
			p.refuse(name, "distinct things are counted by sketches of all traffic, which can't be filtered; allowed: no %s", name)
		}
	}
	return func() (any, error) { return a.cardinalityOf(q), nil }, p.finish()
}

func (a *API) cardinalityOf(q question) cardinalities {
	snap := a.snapshot(q)
	c := cardinalities{period: periodOf(snap.window()), Estimates: []estimate{}}
	distinct := snap.distinct()
	for _, of := range slices.Sorted(maps.Keys(distinct)) {
		c.Estimates = append(c.Estimates, estimate{of, uint64(math.Round(distinct[of])), hll.RelativeError})
	}
	window := q.last
	if window == 0 {
		window = q.to.Sub(q.from)
	}
	c.Window = model.Duration(window).String()
	return c
}

// exporter is one of GET /v1/exporters.
type exporter struct {
	Name          string            `json:"name"`
	URL           string            `json:"url"`
	Labels        map[string]string `json:"labels"`
	Host          string            `json:"host"`
	Up            bool              `json:"up"`
	LastEpoch     *time.Time        `json:"last_epoch"` // null if there was none
	LagSeconds    float64           `json:"lag_seconds"`
	MissedEpochs  uint64            `json:"missed_epochs"`
	RefusedEpochs uint64            `json:"refused_epochs"`
	ReceivedBytes uint64            `json:"received_bytes"`
	LastError     string            `json:"last_error"`
	// How far its clock is ahead of the aggregator's, give or take the error; null if
	// it doesn't say. Times of its epochs are corrected by that.
	ClockSkew      *float64 `json:"clock_skew_seconds"`
	ClockSkewError *float64 `json:"clock_skew_error_seconds"`
}

// exporterList is the answer of GET /v1/exporters.
type exporterList struct {
	Exporters []exporter `json:"exporters"`
	Next      string     `json:"next"`
}

func (l exporterList) next() string { return l.Next }

func (l exporterList) table() table {
	t := table{header: []string{"name", "url", "host", "up", "last_epoch", "lag_seconds", "missed_epochs", "refused_epochs", "received_bytes", "last_error", "clock_skew_seconds", "clock_skew_error_seconds"}}
	for _, e := range l.Exporters {
		last := ""
		if e.LastEpoch != nil {
			last = instant(*e.LastEpoch)
		}
		t.rows = append(t.rows, []string{
			e.Name, e.URL, e.Host, strconv.FormatBool(e.Up), last, fraction(e.LagSeconds),
			number(e.MissedEpochs), number(e.RefusedEpochs), number(e.ReceivedBytes), e.LastError, optional(e.ClockSkew), optional(e.ClockSkewError),
		})
	}
	return t
}

func optional(f *float64) string {
	if f == nil {
		return ""
	}
	return fraction(*f)
}

func (a *API) exporters(p *parameters) (answer, error) {
	page, up := p.page(maxTop), p.choice("up", "", "true", "false")
	return func() (any, error) {
		exporters, skews := []exporter{}, a.store.Skews()
		for _, s := range a.statuses() {
			if up == "" || up == strconv.FormatBool(s.Up) {
				exporters = append(exporters, a.exporterOf(&s, skews))
			}
		}
		slices.SortStableFunc(exporters, func(a, b exporter) int { return cmp.Compare(a.Name, b.Name) })
		l := exporterList{Exporters: pageOf(exporters, page)}
		if len(exporters) > page.end() {
			l.Next = p.next("/v1/exporters", page, nil)
		}
		return l, nil
	}, p.finish()
}

func (a *API) exporterOf(s *scrape.Status, skews map[string]store.Skew) exporter {
	e := exporter{
		Name: s.Name, URL: s.URL, Labels: s.Labels, Host: s.Host, Up: s.Up,
		LagSeconds:   s.Lag(a.now()).Seconds(),
		MissedEpochs: s.MissedEpochs, RefusedEpochs: s.RefusedEpochs,
		ReceivedBytes: s.ReceivedBytes, LastError: s.LastError,
	}
	if !s.LastEpoch.IsZero() {
		last := s.LastEpoch.UTC()
		e.LastEpoch = &last
	}
	if skew, known := skews[s.Name]; known {
		offset, wrong := skew.Offset.Seconds(), skew.Error.Seconds()
		e.ClockSkew, e.ClockSkewError = &offset, &wrong
	}
	return e
}

type health struct {
	Status string `json:"status"`
}

func (a *API) healthy(p *parameters) (answer, error) {
	return func() (any, error) { return health{"healthy"}, nil }, p.finish()
}

// ready is an error until every exporter was asked once: before that, windows
// lack what is there to be had.
func (a *API) ready(p *parameters) (answer, error) {
	return func() (any, error) {
		for _, s := range a.statuses() {
			if s.Polls == 0 {
				return nil, &requestError{status: http.StatusServiceUnavailable, message: s.Name + " wasn't scraped yet"}
			}
		}
		return health{"ready"}, nil
	}, p.finish()
}
