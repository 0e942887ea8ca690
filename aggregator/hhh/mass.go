package hhh

import (
	"cmp"
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
	slices.SortFunc(masses, func(a, b Mass) int { return a.Compare(b.Prefix) })
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

// FoldSmallest makes a combined list no longer than bound, which has to be at
// least 2: the smallest masses move to the next shorter step of the ladders by
// which exporters fold, until enough of them have met. No byte is lost.
func FoldSmallest(masses []Mass, bound int) []Mass {
	for len(masses) > bound {
		excess := len(masses) - bound
		slices.SortFunc(masses, func(a, b Mass) int {
			if c := cmp.Compare(min(a.length, 1), min(b.length, 1)); c != 0 {
				return -c // what can't fold any further comes last
			}
			return cmp.Compare(a.Bytes, b.Bytes)
		})
		for i := range masses[:min(excess+1, len(masses))] {
			masses[i].Prefix = masses[i].foldStep()
		}
		masses = Combine(masses)
	}
	return masses
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
