package api

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// defaultWindow is the time that a request is about which doesn't say.
const defaultWindow = time.Minute

// leastShare bounds how many heavy hitters there can be.
const leastShare = 0.0001

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
}

func totalsOf(w *store.Window) totals {
	return totals{countOf(w.Counted), countOf(w.Remainder), countOf(w.Uncertain)}
}

// interval is the bytes between which the truth is.
type interval struct {
	Lower uint64 `json:"lower"`
	Upper uint64 `json:"upper"`
}

// snapshot returns what the span of a request is about.
func (a *API) snapshot(s span) *snapshot {
	if s.last > 0 {
		return a.memo.last(s.last)
	}
	if oldest := a.now().Add(-a.configuration.Retention); s.from.Before(oldest) {
		s.from = oldest
	}
	return a.memo.between(s.from, s.to)
}

func (a *API) span(p *parameters) span { return p.span(defaultWindow, a.configuration.Retention) }

// heavyHitter is one of GET /v1/hhh.
type heavyHitter struct {
	Prefix      string `json:"prefix"`
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

func (a *API) hhh(p *parameters) (any, error) {
	d, s := p.dimension(), a.span(p)
	phi := p.share("phi", a.configuration.Phi, leastShare)
	least := p.share("min_share", 0, 0)
	if err := p.finish(); err != nil {
		return nil, err
	}
	snap := a.snapshot(s)
	tree := snap.trees[d]()
	found := []heavyHitter{}
	for _, h := range tree.Heavy(phi) {
		if h.Bytes >= hhh.Threshold(least, tree.Total().Bytes) {
			found = append(found, heavyHitterOf(h))
		}
	}
	return struct {
		period
		Dimension string  `json:"dimension"`
		Phi       float64 `json:"phi"`
		totals
		HeavyHitters []heavyHitter `json:"heavy_hitters"`
	}{periodOf(snap.window()), d.String(), phi, totalsOf(snap.window()), found}, nil
}

// node is one of GET /v1/tree.
type node struct {
	Prefix    string `json:"prefix"`
	Bytes     uint64 `json:"bytes"`
	SelfBytes uint64 `json:"self_bytes"`
	Packets   uint64 `json:"packets"`
	interval
	Rest     bool   `json:"rest"`
	Children []node `json:"children"`
}

func nodeOf(v *hhh.View) node {
	n := node{
		Prefix: v.String(), Bytes: v.Bytes, SelfBytes: v.SelfBytes, Packets: v.Packets,
		interval: interval{v.Lower, v.Upper}, Rest: v.Rest, Children: make([]node, len(v.Children)),
	}
	for i := range v.Children {
		n.Children[i] = nodeOf(&v.Children[i])
	}
	return n
}

// Below this share the size of an answer is bounded by that of the tree alone,
// which then mustn't have more nodes than this.
const (
	leastTreeShare = 0.00001
	maxWholeTree   = 100_000
)

func (a *API) tree(p *parameters) (any, error) {
	d, s, least := p.dimension(), a.span(p), p.share("min_share", 0.01, 0)
	if err := p.finish(); err != nil {
		return nil, err
	}
	snap := a.snapshot(s)
	tree := snap.trees[d]()
	if least < leastTreeShare && tree.Len() > maxWholeTree {
		return nil, &requestError{http.StatusBadRequest, "min_share",
			fmt.Sprintf("the tree has %d prefixes; allowed: %v to 1 where it has more than %d", tree.Len(), leastTreeShare, maxWholeTree)}
	}
	root := tree.View(least)
	return struct {
		period
		Dimension string `json:"dimension"`
		totals
		Root node `json:"root"`
	}{periodOf(snap.window()), d.String(), totalsOf(snap.window()), nodeOf(&root)}, nil
}

// entry is one of GET /v1/top. Which of the names it has depends on by.
type entry struct {
	Source          string  `json:"source,omitempty"`
	Destination     string  `json:"destination,omitempty"`
	SourcePort      *uint16 `json:"source_port,omitempty"`
	DestinationPort *uint16 `json:"destination_port,omitempty"`
	Protocol        string  `json:"protocol,omitempty"`
	Port            *uint16 `json:"port,omitempty"`
	count
	interval
}

// The length of a top.
const defaultTop, maxTop = 20, 10_000

func (a *API) top(p *parameters) (any, error) {
	s, by, k := a.span(p), p.choice("by", "flow", "source", "destination", "service"), p.count("limit", defaultTop, maxTop)
	if err := p.finish(); err != nil {
		return nil, err
	}
	snap := a.snapshot(s)
	return struct {
		period
		By string `json:"by"`
		totals
		Top []entry `json:"top"`
	}{periodOf(snap.window()), by, totalsOf(snap.window()), topBy(snap, by, k)}, nil
}

// topBy ranks by one of the four choices.
func topBy(snap *snapshot, by string, k int) []entry {
	top := []entry{}
	switch by {
	case "flow":
		for _, r := range snap.window().TopFlows(k) {
			top = append(top, flowEntry(r))
		}
	case "service":
		for _, r := range snap.window().TopServices(k) {
			top = append(top, entry{
				Protocol: flow.ProtocolName(r.Key.Protocol), Port: &r.Key.Port,
				count: countOf(r.Count), interval: interval{r.Lower, r.Upper},
			})
		}
	case "source":
		for _, n := range snap.trees[flow.Source]().TopAddresses(k) {
			top = append(top, entry{Source: address(n.Prefix), count: countOf(n.Count), interval: interval{n.Lower, n.Upper}})
		}
	case "destination":
		for _, n := range snap.trees[flow.Destination]().TopAddresses(k) {
			top = append(top, entry{Destination: address(n.Prefix), count: countOf(n.Count), interval: interval{n.Lower, n.Upper}})
		}
	}
	return top
}

func flowEntry(r store.Ranked[flow.Key]) entry {
	return entry{
		Source: r.Key.SourceAddr().String(), Destination: r.Key.DestinationAddr().String(),
		SourcePort: &r.Key.SourcePort, DestinationPort: &r.Key.DestinationPort,
		Protocol: flow.ProtocolName(r.Key.Protocol),
		count:    countOf(r.Count), interval: interval{r.Lower, r.Upper},
	}
}

// address writes a prefix that is one address without its length.
func address(p hhh.Prefix) string {
	if p.IsAddr() {
		return p.Netip().Addr().String()
	}
	return p.String()
}

// estimate is one of GET /v1/cardinality.
type estimate struct {
	Of            string  `json:"of"`
	Estimate      uint64  `json:"estimate"`
	RelativeError float64 `json:"relative_error"`
}

func (a *API) cardinality(p *parameters) (any, error) {
	s := a.span(p)
	if err := p.finish(); err != nil {
		return nil, err
	}
	snap := a.snapshot(s)
	distinct := snap.distinct()
	estimates := []estimate{}
	for _, of := range slices.Sorted(maps.Keys(distinct)) {
		estimates = append(estimates, estimate{of, uint64(math.Round(distinct[of])), hll.RelativeError})
	}
	window := s.last
	if window == 0 {
		window = s.to.Sub(s.from)
	}
	return struct {
		Window string `json:"window"`
		period
		Estimates []estimate `json:"estimates"`
	}{model.Duration(window).String(), periodOf(snap.window()), estimates}, nil
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

func (a *API) exporters(p *parameters) (any, error) {
	if err := p.finish(); err != nil {
		return nil, err
	}
	exporters := []exporter{}
	skews := a.store.Skews()
	for _, s := range a.statuses() {
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
		exporters = append(exporters, e)
	}
	return struct {
		Exporters []exporter `json:"exporters"`
	}{exporters}, nil
}

type health struct {
	Status string `json:"status"`
}

func (a *API) healthy(p *parameters) (any, error) { return health{"healthy"}, p.finish() }

// ready is an error until every exporter was asked once: before that, windows
// lack what is there to be had.
func (a *API) ready(p *parameters) (any, error) {
	if err := p.finish(); err != nil {
		return nil, err
	}
	for _, s := range a.statuses() {
		if s.Polls == 0 {
			return nil, &requestError{status: http.StatusServiceUnavailable, message: s.Name + " wasn't scraped yet"}
		}
	}
	return health{"ready"}, nil
}
