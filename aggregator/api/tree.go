package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

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

// maxNodes bounds the size of an answer.
const maxNodes = 100_000

// deepest is the most levels that a tree can have.
const deepest = 130

// tree is the answer of GET /v1/tree. LeastBytes is what the prefixes in it have at
// least: the share of the root's bytes, or more where there were too many.
type tree struct {
	period
	Dimension  string  `json:"dimension"`
	MinShare   float64 `json:"min_share"`
	LeastBytes uint64  `json:"least_bytes"`
	totals
	Root node `json:"root"`
}

func (t tree) table() table {
	rows := table{header: []string{"prefix", "parent", "depth", "rest", "bytes", "self_bytes", "packets", "lower", "upper"}}
	var walk func(n *node, parent string, depth int)
	walk = func(n *node, parent string, depth int) {
		rows.rows = append(rows.rows, []string{
			n.Prefix, parent, strconv.Itoa(depth), strconv.FormatBool(n.Rest),
			number(n.Bytes), number(n.SelfBytes), number(n.Packets), number(n.Lower), number(n.Upper),
		})
		for i := range n.Children {
			walk(&n.Children[i], n.Prefix, depth+1)
		}
	}
	walk(&t.Root, "", 0)
	return rows
}

// treeQuery is the parameters of GET /v1/tree.
type treeQuery struct {
	question
	dimension flow.Dimension
	root      hhh.Prefix
	extent    hhh.Extent
}

func (a *API) treeQuery(p *parameters, q question) treeQuery {
	return treeQuery{
		question: q, dimension: p.dimension(), root: a.root(p),
		extent: hhh.Extent{
			MinShare: p.share("min_share", 0.01, 0),
			Levels:   p.count("depth", deepest, deepest), MaxNodes: p.count("max_nodes", maxNodes, maxNodes),
		},
	}
}

func (a *API) tree(p *parameters) (answer, error) {
	q := a.treeQuery(p, a.question(p))
	return func() (any, error) { return a.treeOf(q), nil }, p.finish()
}

func (a *API) treeOf(q treeQuery) tree {
	snap := a.snapshot(q.question)
	view, least := snap.trees[q.dimension]().Zoom(q.root, q.extent)
	return tree{
		period: periodOf(snap.window()), Dimension: q.dimension.String(), MinShare: q.extent.MinShare, LeastBytes: least,
		totals: totalsOf(snap.window()), Root: nodeOf(&view),
	}
}

// root reads root=, a prefix of the hierarchy, by default all.
func (a *API) root(p *parameters) hhh.Prefix {
	if value, given := p.get("root"); !given || value == "all" {
		return hhh.Prefix{}
	}
	prefix := p.prefix("root")
	if !prefix.IsValid() {
		return hhh.Prefix{}
	}
	if lengths := a.lengths(prefix); !slices.Contains(lengths, prefix.Bits()) {
		p.refuse("root", "%q isn't in the hierarchy; allowed: prefixes of %s bits", prefix, fmt.Sprint(lengths))
	}
	return hhh.FromNetip(prefix)
}

func (a *API) lengths(p netip.Prefix) []int {
	levels := a.store.Levels()
	if p.Addr().Is4() {
		return levels.IPv4
	}
	return levels.IPv6
}
