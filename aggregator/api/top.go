package api

import (
	"maps"
	"slices"
	"strings"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/aggregator/store"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/networks"
)

// entry is one of GET /v1/top. Which of the names it has depends on by.
type entry struct {
	Source             string  `json:"source,omitempty"`
	Destination        string  `json:"destination,omitempty"`
	SourcePort         *uint16 `json:"source_port,omitempty"`
	DestinationPort    *uint16 `json:"destination_port,omitempty"`
	Protocol           string  `json:"protocol,omitempty"`
	Port               *uint16 `json:"port,omitempty"`
	Exporter           string  `json:"exporter,omitempty"`
	SourceNetwork      string  `json:"source_network,omitempty"`
	DestinationNetwork string  `json:"destination_network,omitempty"`
	count
	interval
}

// named returns a name of an entry as text.
func (e *entry) named(column string) string {
	switch column {
	case "source":
		return e.Source
	case "destination":
		return e.Destination
	case "source_port":
		return port(e.SourcePort)
	case "destination_port":
		return port(e.DestinationPort)
	case "protocol":
		return e.Protocol
	case "port":
		return port(e.Port)
	case "exporter":
		return e.Exporter
	case "source_network":
		return e.SourceNetwork
	default:
		return e.DestinationNetwork
	}
}

// rankings are what can be ranked, each with the names that its entries have. What has
// no flow any more is only in those of addresses.
var rankings = []struct {
	by      string
	columns string
	rank    func(a *API, snap *snapshot, k int) []entry
}{
	{"flow", "source destination source_port destination_port protocol", func(_ *API, snap *snapshot, k int) []entry {
		return entries(snap.window().TopFlows(k), flowEntry)
	}},
	{"source", "source", func(_ *API, snap *snapshot, k int) []entry {
		return addressEntries(snap.trees[flow.Source](), k, func(e *entry, address string) { e.Source = address })
	}},
	{"destination", "destination", func(_ *API, snap *snapshot, k int) []entry {
		return addressEntries(snap.trees[flow.Destination](), k, func(e *entry, address string) { e.Destination = address })
	}},
	{"service", "protocol port", func(_ *API, snap *snapshot, k int) []entry {
		return entries(snap.window().TopServices(k), func(s flow.Service) entry {
			return entry{Protocol: flow.ProtocolName(s.Protocol), Port: &s.Port}
		})
	}},
	{"protocol", "protocol", func(_ *API, snap *snapshot, k int) []entry {
		return entries(snap.window().TopProtocols(k), func(p uint8) entry { return entry{Protocol: flow.ProtocolName(p)} })
	}},
	{"exporter", "exporter", func(_ *API, snap *snapshot, k int) []entry {
		return entries(snap.window().TopExporters(k), func(name string) entry { return entry{Exporter: name} })
	}},
	{"network", "source_network destination_network", func(a *API, snap *snapshot, k int) []entry {
		return networkEntries(snap, a.store.NetworkNames(), k)
	}},
}

// entries are ranked ones of any kind, with names.
func entries[K comparable](ranked []store.Ranked[K], name func(K) entry) []entry {
	all := []entry{}
	for _, r := range ranked {
		e := name(r.Key)
		e.count, e.interval = countOf(r.Count), interval{r.Lower, r.Upper}
		all = append(all, e)
	}
	return all
}

func flowEntry(k flow.Key) entry {
	return entry{
		Source: k.SourceAddr().String(), Destination: k.DestinationAddr().String(),
		SourcePort: &k.SourcePort, DestinationPort: &k.DestinationPort, Protocol: flow.ProtocolName(k.Protocol),
	}
}

func addressEntries(tree *hhh.Tree, k int, name func(*entry, string)) []entry {
	all := []entry{}
	for _, n := range tree.TopAddresses(k) {
		e := entry{count: countOf(n.Count), interval: interval{n.Lower, n.Upper}}
		name(&e, address(n.Prefix))
		all = append(all, e)
	}
	return all
}

func networkEntries(snap *snapshot, table *networks.Table, k int) []entry {
	return entries(snap.window().TopNetworks(table, k), func(n store.NetworkPair) entry {
		return entry{SourceNetwork: n.Source, DestinationNetwork: n.Destination}
	})
}

// address writes a prefix that is one address without its length.
func address(p hhh.Prefix) string {
	if p.IsAddr() {
		return p.Netip().Addr().String()
	}
	return p.String()
}

// top is the answer of GET /v1/top. Flowless is what of total has no flow any more.
type top struct {
	period
	By string `json:"by"`
	totals
	Flowless count   `json:"flowless"`
	Top      []entry `json:"top"`
	Next     string  `json:"next"` // empty on the last page

	columns []string
}

func (t top) next() string { return t.Next }

func (t top) table() table { return entryTable(t.columns, t.Top) }

func entryTable(columns []string, entries []entry) table {
	t := table{header: append(columns[:len(columns):len(columns)], countColumns...)}
	for i := range entries {
		var row []string
		for _, column := range columns {
			row = append(row, entries[i].named(column))
		}
		t.rows = append(t.rows, append(row, countCells(entries[i].count, entries[i].interval)...))
	}
	return t
}

// topQuery is the parameters of GET /v1/top. ranking is an index.
type topQuery struct {
	question
	page
	ranking int
}

func (a *API) topQuery(p *parameters, q question) topQuery {
	query := topQuery{question: q, page: p.page(defaultTop)}
	var allowed []string
	for i := range rankings {
		allowed = append(allowed, rankings[i].by)
	}
	by := p.choice("by", allowed...)
	for i := range rankings {
		if rankings[i].by == by {
			query.ranking = i
		}
	}
	return query
}

func (a *API) top(p *parameters) (answer, error) {
	q := a.topQuery(p, a.question(p))
	return func() (any, error) { return a.topOf(p, q), nil }, p.finish()
}

func (a *API) topOf(p *parameters, q topQuery) top {
	snap, ranking := a.snapshot(q.question), &rankings[q.ranking]
	ranked := ranking.rank(a, snap, q.end()+1)
	t := top{
		period: periodOf(snap.window()), By: ranking.by, totals: totalsOf(snap.window()), Flowless: countOf(snap.window().Flowless()),
		Top: pageOf(ranked, q.page), columns: strings.Fields(ranking.columns),
	}
	if len(ranked) > q.end() {
		t.Next = p.next("/v1/top", q.page, &t.period)
	}
	return t
}

// matrix is the answer of GET /v1/matrix. Its cells add up to total.
type matrix struct {
	period
	totals
	Networks []string `json:"networks"`
	Matrix   []cell   `json:"matrix"`
}

// cell is the traffic between two networks, by their names.
type cell struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	count
	interval
}

func (m matrix) table() table {
	t := table{header: append([]string{"source", "destination"}, countColumns...)}
	for _, c := range m.Matrix {
		t.rows = append(t.rows, append([]string{c.Source, c.Destination}, countCells(c.count, c.interval)...))
	}
	return t
}

func (a *API) matrix(p *parameters) (answer, error) {
	q := a.question(p)
	return func() (any, error) { return a.matrixOf(a.snapshot(q)), nil }, p.finish()
}

// matrixOf has the cells of all traffic, with what was folded as far as its prefixes
// tell, or those of the flows that were asked for.
func (a *API) matrixOf(snap *snapshot) matrix {
	w := snap.window()
	m := matrix{period: periodOf(w), totals: totalsOf(w), Networks: []string{}, Matrix: []cell{}}
	if w.IsFiltered() {
		table := a.store.NetworkNames()
		for _, r := range w.TopNetworks(table, table.Len()*table.Len()+1) {
			m.Matrix = append(m.Matrix, cell{r.Key.Source, r.Key.Destination, countOf(r.Count), interval{r.Lower, r.Upper}})
		}
	} else {
		for _, t := range snap.networks() {
			m.Matrix = append(m.Matrix, cell{t.Source, t.Destination, countOf(t.Count), interval{t.Lower, t.Upper}})
		}
	}
	names := make(map[string]bool)
	for _, c := range m.Matrix {
		names[c.Source], names[c.Destination] = true, true
	}
	m.Networks = append(m.Networks, slices.Sorted(maps.Keys(names))...)
	return m
}
