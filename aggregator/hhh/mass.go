package hhh

import (
	"math/bits"
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Mass is a count that stands at a prefix.
type Mass struct {
	Prefix
	epoch.Count
}

// Combine sorts masses by prefix and adds up those of the same one, in place.
func Combine(masses []Mass) []Mass {
	if len(masses) > insertionMaximum {
		return combineMany(masses)
	}
	slices.SortFunc(masses, func(a, b Mass) int { return a.Compare(b.Prefix) })
	return addUp(masses)
}

// combineMany sorts addresses, which most masses are, by their bits.
func combineMany(masses []Mass) []Mass {
	work := workspaces.Get().(*workspace)
	defer workspaces.Put(work)
	work.reserve(len(masses))
	begin, end := 0, len(work.records)
	var inner []Mass
	for i := range masses {
		m := &masses[i]
		switch r := (record{m.hi, m.lo, m.Bytes, m.Packets}); {
		case m.family == IPv4 && m.length == 32:
			work.records[begin] = r
			begin++
		case m.family == IPv6 && m.length == 128:
			end--
			work.records[end] = r
		default:
			inner = append(inner, *m)
		}
	}
	slices.SortFunc(inner, func(a, b Mass) int { return a.Compare(b.Prefix) })
	out := masses[:0]
	out = work.sorted(out, work.records[:begin], IPv4, 32)
	out = work.sorted(out, work.records[end:], IPv6, 128)
	if len(inner) == 0 {
		return out
	}
	return merge(slices.Clone(out), addUp(inner), masses[:0])
}

// sorted appends records, sorted and added up, as masses.
func (w *workspace) sorted(to []Mass, records []record, f Family, length uint8) []Mass {
	if len(records) > 0 {
		sortRecords(records, w.spare[:len(records)])
	}
	for i := range records {
		r := &records[i]
		if i > 0 && records[i-1].hi == r.hi && records[i-1].lo == r.lo {
			to[len(to)-1].Add(epoch.Count{Packets: r.packets, Bytes: r.bytes})
			continue
		}
		to = append(to, Mass{Prefix{r.hi, r.lo, f, length}, epoch.Count{Packets: r.packets, Bytes: r.bytes}})
	}
	return to
}

// addUp adds up neighbours of the same prefix, in place.
func addUp(masses []Mass) []Mass {
	combined := masses[:0]
	for _, m := range masses {
		if n := len(combined); n > 0 && combined[n-1].Prefix == m.Prefix {
			combined[n-1].Add(m.Count)
			continue
		}
		combined = append(combined, m)
	}
	return combined
}

// Merge adds up combined lists to one, which shares no memory with them if there is
// more than one.
func Merge(lists ...[]Mass) []Mass {
	for len(lists) > 1 {
		var halves [][]Mass
		for ; len(lists) > 1; lists = lists[2:] {
			halves = append(halves, merge(lists[0], lists[1], make([]Mass, 0, len(lists[0])+len(lists[1]))))
		}
		lists = append(halves, lists...)
	}
	if len(lists) == 0 {
		return nil
	}
	return lists[0]
}

// merge appends the sum of two combined lists.
func merge(a, b, to []Mass) []Mass {
	for len(a) > 0 && len(b) > 0 {
		switch c := a[0].Compare(b[0].Prefix); {
		case c < 0:
			to, a = append(to, a[0]), a[1:]
		case c > 0:
			to, b = append(to, b[0]), b[1:]
		default:
			sum := a[0]
			sum.Add(b[0].Count)
			to, a, b = append(to, sum), a[1:], b[1:]
		}
	}
	return append(append(to, a...), b...)
}

// FoldSmallest makes a combined list no longer than bound, which has to be at
// least 3: the smallest masses move to the next shorter step of the ladders by
// which exporters fold, until enough of them have met. No byte is lost. What is
// small is decided to a quarter of a power of two, so that no sorting is needed and
// the list becomes somewhat shorter than it had to.
func FoldSmallest(masses []Mass, bound int) []Mass {
	for len(masses) > bound {
		masses = foldBelow(masses, foldThreshold(masses, len(masses)-bound+1))
	}
	return masses
}

// magnitude is the base-2 logarithm in quarters, rounded down.
func magnitude(bytes uint64) int {
	if bytes < 4 {
		return int(bytes)
	}
	exponent := bits.Len64(bytes) - 1
	return exponent*4 - 4 + int(bytes>>(exponent-2)&3)
}

// foldThreshold returns below which magnitude at least n masses are, or all of
// those that can fold.
func foldThreshold(masses []Mass, n int) int {
	var counts [256]int
	for i := range masses {
		if masses[i].length > 0 {
			counts[magnitude(masses[i].Bytes)]++
		}
	}
	for at, count := range counts {
		if n -= count; n <= 0 {
			return at + 1
		}
	}
	return len(counts)
}

// ladderSteps is how many steps a mass can fold.
const ladderSteps = 4

// step returns how many steps are left for a prefix until it has length 0.
func (p *Prefix) step() int {
	length := int(p.length)
	switch {
	case p.family == IPv4:
		return (length + 7) / 8
	case length > 64:
		return 4
	case length > 48:
		return 3
	case length > 32:
		return 2
	}
	return min(length, 1)
}

// foldBelow folds what is below a magnitude, from the longest prefixes up, and what
// has met there and is below it still.
func foldBelow(masses []Mass, threshold int) []Mass {
	var steps [ladderSteps + 1][]Mass
	for i := range masses {
		at := masses[i].step()
		steps[at] = append(steps[at], masses[i])
	}
	for at := ladderSteps; at > 0; at-- {
		kept := steps[at][:0]
		var folded []Mass
		for _, m := range steps[at] {
			if magnitude(m.Bytes) >= threshold {
				kept = append(kept, m)
				continue
			}
			// The order of what is on one step stays when all become as short.
			m.Prefix = m.foldStep()
			if n := len(folded); n > 0 && folded[n-1].Prefix == m.Prefix {
				folded[n-1].Add(m.Count)
			} else {
				folded = append(folded, m)
			}
		}
		steps[at] = kept
		steps[at-1] = merge(steps[at-1], folded, make([]Mass, 0, len(steps[at-1])+len(folded)))
	}
	return Merge(steps[:]...)
}

// foldStep returns the prefix's ancestor at the next step of the ladder: /24,
// /16, /8 and /0 for IPv4, /64, /48, /32 and /0 for IPv6.
func (p Prefix) foldStep() Prefix {
	if p.family == IPv4 {
		return p.Truncate(max(0, int(p.length)-1) / 8 * 8)
	}
	for _, length := range [...]int{64, 48, 32} {
		if int(p.length) > length {
			return p.Truncate(length)
		}
	}
	return p.Truncate(0)
}
