package window

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Ranking is the top of one kind of key over a window. An entry's count is never
// too large: traffic of its key in a pane in which it wasn't among the largest is
// in Other, as is traffic without such a key. Entries and Other sum up to the
// window's total exactly.
type Ranking[K comparable] struct {
	Entries []Ranked[K] // by bytes, largest first; at most k
	Other   epoch.Count
	// Admissions and Evictions count entries that came and went since the start.
	Admissions, Evictions uint64
}

// Ranked is one entry of a Ranking.
type Ranked[K comparable] struct {
	Key K
	epoch.Count
}

// What makes an entry give its place to a key that isn't in the ranking. Places
// that are free are taken at once, and entries without traffic in the window
// leave at once.
const (
	// overtake is the ratio of bytes at which an entry goes that has been in the
	// ranking for a whole window.
	overtakeNumerator, overtakeDenominator = 5, 4
	// outclass is the ratio at which any entry goes: something happened.
	outclass = 4
)

// ranking chooses the entries of a Ranking with hysteresis, so that the series
// made of them don't churn: under traffic that doesn't change, k entries change
// at most once a window.
type ranking[K comparable] struct {
	k      int
	window time.Duration // for which an entry stays at least
	panes  [][]counted[K]
	sums   map[K]epoch.Count // over the panes
	since  map[K]time.Time   // the entries, and when they came
	told   Ranking[K]
}

func newRanking[K comparable](k int, window time.Duration) ranking[K] {
	return ranking[K]{k: k, window: window, sums: map[K]epoch.Count{}, since: map[K]time.Time{}}
}

// push adds a pane's largest keys.
func (r *ranking[K]) push(largest []counted[K]) {
	r.panes = append(r.panes, largest)
	for i := range largest {
		sum := r.sums[largest[i].key]
		sum.Add(largest[i].Count)
		r.sums[largest[i].key] = sum
	}
}

// pop takes the oldest pane away.
func (r *ranking[K]) pop() {
	for _, c := range r.panes[0] {
		sum := r.sums[c.key]
		sum.Sub(c.Count)
		if sum == (epoch.Count{}) {
			delete(r.sums, c.key)
		} else {
			r.sums[c.key] = sum
		}
	}
	r.panes[0] = nil
	r.panes = r.panes[1:]
}

// rank chooses the entries as of now, when the window's total is as given.
func (r *ranking[K]) rank(now time.Time, total epoch.Count) Ranking[K] {
	r.evictIdle()
	r.admit(now)
	r.told.Entries, r.told.Other = make([]Ranked[K], 0, len(r.since)), total
	for key := range r.since {
		r.told.Entries = append(r.told.Entries, Ranked[K]{key, r.sums[key]})
		r.told.Other.Sub(r.sums[key])
	}
	slices.SortFunc(r.told.Entries, func(a, b Ranked[K]) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return r.told
}

// evictIdle drops entries without traffic in the window.
func (r *ranking[K]) evictIdle() {
	for key := range r.since {
		if _, ok := r.sums[key]; !ok {
			r.evict(key)
		}
	}
}

// admit lets the largest other keys in, as far as there is room or an entry has
// to give way.
func (r *ranking[K]) admit(now time.Time) {
	var entries []counted[K] // smallest first; made when there is no room
	for _, challenger := range r.challengers() {
		if len(r.since) == r.k {
			if entries == nil {
				entries = r.entries()
			}
			i := slices.IndexFunc(entries, func(e counted[K]) bool { return r.yields(&e, challenger.Bytes, now) })
			if i < 0 {
				return // and smaller ones don't get in either
			}
			r.evict(entries[i].key)
			entries = slices.Delete(entries, i, i+1)
		}
		r.since[challenger.key] = now
		r.told.Admissions++
	}
}

// yields tells whether an entry gives way to a key with so many bytes.
func (r *ranking[K]) yields(e *counted[K], bytes uint64, now time.Time) bool {
	if bytes > outclass*e.Bytes {
		return true
	}
	settled := now.Sub(r.since[e.key]) >= r.window
	return settled && bytes*overtakeDenominator > e.Bytes*overtakeNumerator
}

func (r *ranking[K]) evict(key K) {
	delete(r.since, key)
	r.told.Evictions++
}

// entries returns the entries, smallest first.
func (r *ranking[K]) entries() []counted[K] {
	all := make([]counted[K], 0, len(r.since))
	for key := range r.since {
		all = append(all, counted[K]{key, r.sums[key]})
	}
	slices.SortFunc(all, func(a, b counted[K]) int { return cmp.Compare(a.Bytes, b.Bytes) })
	return all
}

// challengers returns the k largest keys that aren't entries, largest first.
func (r *ranking[K]) challengers() []counted[K] {
	others := make([]counted[K], 0, len(r.sums))
	for key, sum := range r.sums {
		if _, ok := r.since[key]; !ok {
			others = append(others, counted[K]{key, sum})
		}
	}
	largest, _ := cutAt(countedBytes(others), r.k, nil)
	others = slices.DeleteFunc(others, func(c counted[K]) bool { return !largest.Keeps(c.Bytes) })
	slices.SortFunc(others, func(a, b counted[K]) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return others
}

func countedBytes[K comparable](all []counted[K]) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for i := range all {
			if !yield(all[i].Bytes) {
				return
			}
		}
	}
}
