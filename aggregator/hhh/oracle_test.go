package hhh

import (
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strconv"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// oracle is the definition, slow and obvious: a map of masses by CIDR text, and
// every question answered by walking over all of it.
type oracle struct {
	levels   Levels
	masses   map[string]epoch.Count // by the prefix's text; "all" is the root
	unknown  uint64
	doubtful uint64
	lines    map[string][]string // what line returned before
}

func newOracle(levels Levels) *oracle {
	return &oracle{levels: levels, masses: make(map[string]epoch.Count), lines: make(map[string][]string)}
}

func (o *oracle) lengths(p netip.Prefix) []int {
	if p.Addr().Is4() {
		return o.levels.IPv4
	}
	return o.levels.IPv6
}

// ancestors returns the prefix's text at each level, itself included, "all" first.
func (o *oracle) ancestors(p netip.Prefix) []string {
	line := []string{"all"}
	for _, length := range o.lengths(p) {
		if length <= p.Bits() {
			ancestor, _ := p.Addr().Prefix(length)
			line = append(line, ancestor.String())
		}
	}
	return line
}

func (o *oracle) add(p netip.Prefix, c epoch.Count) {
	line := o.ancestors(p)
	o.addAt(line[len(line)-1], c)
}

func (o *oracle) addAt(text string, c epoch.Count) {
	sum := o.masses[text]
	sum.Add(c)
	o.masses[text] = sum
}

// line returns the texts from the root to a prefix.
func (o *oracle) line(text string) []string {
	if text == "all" {
		return []string{"all"}
	}
	if o.lines[text] == nil {
		o.lines[text] = o.ancestors(netip.MustParsePrefix(text))
	}
	return o.lines[text]
}

// nodes returns every prefix at or above a mass with its sums.
func (o *oracle) nodes() map[string]epoch.Count {
	sums := map[string]epoch.Count{"all": {}}
	for text, c := range o.masses {
		for _, ancestor := range o.line(text) {
			sum := sums[ancestor]
			sum.Add(c)
			sums[ancestor] = sum
		}
	}
	return sums
}

// upper returns what a prefix can have at most.
func (o *oracle) upper(text string, bytes uint64) uint64 {
	line := o.line(text)
	for _, ancestor := range line[:len(line)-1] {
		bytes += o.masses[ancestor].Bytes
	}
	return bytes + o.unknown
}

// lower returns what a prefix with so many bytes has at least.
func (o *oracle) lower(bytes uint64) uint64 {
	if bytes < o.doubtful {
		return 0
	}
	return bytes - o.doubtful
}

// below says that a is a proper descendant of b.
func (o *oracle) below(a, b string) bool {
	line := o.line(a)
	for _, ancestor := range line[:len(line)-1] {
		if ancestor == b {
			return true
		}
	}
	return false
}

// heavy returns the conditioned bytes of all heavy prefixes: from the longest
// prefixes up, masses that a heavy descendant accounts for don't count again.
func (o *oracle) heavy(phi float64) map[string]uint64 {
	nodes, found := o.nodes(), make(map[string]uint64)
	longestFirst := slices.SortedFunc(maps.Keys(nodes), func(a, b string) int { return len(o.line(b)) - len(o.line(a)) })
	for _, text := range longestFirst {
		var conditioned uint64
		for mass, c := range o.masses {
			if (mass == text || o.below(mass, text)) && !o.accounted(mass, text, found) {
				conditioned += c.Bytes
			}
		}
		if conditioned > 0 && atLeast(conditioned, phi, nodes["all"].Bytes) {
			found[text] = conditioned
		}
	}
	return found
}

// accounted says that a heavy prefix below text is at or above the mass.
func (o *oracle) accounted(mass, text string, found map[string]uint64) bool {
	for heavy := range found {
		if o.below(heavy, text) && (mass == heavy || o.below(mass, heavy)) {
			return true
		}
	}
	return false
}

// atLeast compares with phi as it is written in decimal, exactly.
func atLeast(bytes uint64, phi float64, total uint64) bool {
	share, _ := new(big.Rat).SetString(strconv.FormatFloat(phi, 'f', -1, 64))
	of := new(big.Rat).SetFrac(new(big.Int).SetUint64(bytes), new(big.Int).SetUint64(total))
	return of.Cmp(share) >= 0
}
