package window

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// Ranking is the top of one kind of key over a window. An entry's count is never
// too large: traffic of its key from before it became an entry, in a pane in which
// it wasn't among the largest, is in Other, as is traffic without such a key.
// Entries and Other sum up to the window's total exactly.
type Ranking[K comparable] struct {
	Entries []Ranked[K] // by bytes, largest first; at most k
	Other   epoch.Count
	// Missed is how many bytes of Other may be one entry's: at least as many as are.
	Missed uint64
	// Admissions and Evictions count entries that came and went since the start.
	Admissions, Evictions uint64
}

// Ranked is one entry of a Ranking.
type Ranked[K comparable] struct {
	Key K
	epoch.Count
}

// What keeps the series that are made of entries from churning.
const (
	// overtake is by how many times a key's usual traffic must exceed an entry's for
	// the entry to give its place.
	overtake = 1.25
	// residencyWindows is for how many windows entries stay on the average: in that
	// time k keys are admitted, and no more. An entry without traffic stays for as
	// long while nobody wants its place.
	residencyWindows = 20
	// burst is how many times k keys are admitted at once, after a quiet time.
	burst = 2
)

// ranking chooses the entries of a Ranking. Two things bound how many series they
// make. Keys are compared by their usual traffic, in which there is less noise than
// in a window's, and by what is sure of it, so that entries don't change while the
// traffic doesn't. And
// admissions are rationed: in a time t there are at most (burst + t/residency)*k,
// whatever the traffic. When the ration is used up, the largest newcomer gets the
// next place, after residency/k.
type ranking[K comparable] struct {
	k         int
	window    time.Duration
	panes     []pane[K]
	tallies   map[K]*tally // of the panes' keys and of the entries
	entries   map[K]*tally
	unsettled int     // how many panes are older than the last admission
	ration    float64 // admissions that are left
	told      Ranking[K]

	weights weights // if all panes were as long as the last one

	others  []rated[K] // scratch
	scratch []uint64
}

// pane is what a ranking keeps of one.
type pane[K comparable] struct {
	largest []counted[K] // and the entries
	limits
	span time.Duration
}

// limits bound what a pane lacks of a key, in bytes.
type limits struct {
	missed uint64 // of any key
	left   uint64 // of a key that isn't in the pane, besides
}

func newRanking[K comparable](k int, window time.Duration) ranking[K] {
	return ranking[K]{
		k: k, window: window, ration: float64(burst * k),
		tallies: map[K]*tally{}, entries: map[K]*tally{},
	}
}

// push adds a pane.
func (r *ranking[K]) push(p pane[K]) {
	r.panes = append(r.panes, p)
	for i := range p.largest {
		c := &p.largest[i]
		t := r.tallies[c.key]
		if t == nil {
			t = &tally{}
			r.tallies[c.key] = t
		}
		t.add(c.Count)
	}
}

// pop takes the oldest pane away.
func (r *ranking[K]) pop() {
	for _, c := range r.panes[0].largest {
		t := r.tallies[c.key]
		t.remove(c.Count)
		if t.idle() && !t.entry {
			delete(r.tallies, c.key)
		}
	}
	r.panes[0] = pane[K]{}
	r.panes = r.panes[1:]
	r.unsettled = max(0, r.unsettled-1)
}

// rank chooses the entries after a pane was pushed. The window's total is as given.
func (r *ranking[K]) rank(total epoch.Count) Ranking[K] {
	r.weights = newWeights(r.window.Seconds() / r.panes[len(r.panes)-1].span.Seconds())
	r.ration = min(burst*float64(r.k), r.ration+float64(r.k)/(residencyWindows*r.weights.panes))
	for _, t := range r.tallies {
		t.age(&r.weights)
	}
	r.evictIdle()
	r.admit()
	r.told.Entries, r.told.Other = make([]Ranked[K], 0, len(r.entries)), total
	for key, t := range r.entries {
		r.told.Entries = append(r.told.Entries, Ranked[K]{key, t.Count})
		r.told.Other.Sub(t.Count)
	}
	slices.SortFunc(r.told.Entries, func(a, b Ranked[K]) int { return cmp.Compare(b.Bytes, a.Bytes) })
	r.told.Missed = min(r.told.Other.Bytes, r.missed())
	return r.told
}

// missed bounds what the window's panes lack of an entry.
func (r *ranking[K]) missed() (bytes uint64) {
	for i := range r.panes {
		bytes += r.panes[i].missed
		if i < r.unsettled {
			bytes += r.panes[i].left
		}
	}
	return bytes
}

// evictIdle drops entries that have had no traffic for long.
func (r *ranking[K]) evictIdle() {
	for key, t := range r.entries {
		if float64(t.silent) >= residencyWindows*r.weights.panes {
			r.evict(key)
		}
	}
}

// admit lets other keys in, the largest first, as far as the ration reaches: where
// there is room, else where an entry has to give way.
func (r *ranking[K]) admit() {
	if room := min(r.k-len(r.entries), int(r.ration)); room > 0 {
		for _, c := range r.challengers(room, 0) {
			r.enter(c.key)
		}
	}
	if r.ration < 1 || len(r.entries) < r.k {
		return
	}
	challengers, entries := r.challengers(int(r.ration), -deviations), r.smallestFirst()
	for i, c := range challengers {
		// The other entries are no smaller, and the other challengers no larger.
		if i == len(entries) || float64(c.bytes) <= overtake*float64(entries[i].bytes) {
			return
		}
		r.evict(entries[i].key)
		r.enter(c.key)
	}
}

func (r *ranking[K]) enter(key K) {
	t := r.tallies[key]
	t.entry = true
	r.entries[key] = t
	r.unsettled = len(r.panes)
	r.ration--
	r.told.Admissions++
}

func (r *ranking[K]) evict(key K) {
	t := r.entries[key]
	t.entry = false
	if t.idle() {
		delete(r.tallies, key)
	}
	delete(r.entries, key)
	r.told.Evictions++
}

// rated is a key with its usual bytes a window.
type rated[K comparable] struct {
	key   K
	bytes uint64
}

// smallestFirst returns the entries by the most that may be usual for them.
func (r *ranking[K]) smallestFirst() []rated[K] {
	all := make([]rated[K], 0, len(r.entries))
	for key, t := range r.entries {
		all = append(all, rated[K]{key, t.past.usual(&r.weights, deviations)})
	}
	slices.SortFunc(all, func(a, b rated[K]) int { return cmp.Compare(a.bytes, b.bytes) })
	return all
}

// challengers returns the n largest keys that aren't entries, largest first, by their
// usual traffic and so many standard deviations more.
func (r *ranking[K]) challengers(n int, deviations float64) []rated[K] {
	r.others = r.others[:0]
	for key, t := range r.tallies {
		if !t.entry {
			r.others = append(r.others, rated[K]{key, t.past.usual(&r.weights, deviations)})
		}
	}
	var largest fold.Cut
	largest, r.scratch = cutAt(ratedBytes(r.others), n, r.scratch)
	found := slices.DeleteFunc(r.others, func(c rated[K]) bool { return !largest.Keeps(c.bytes) })
	slices.SortFunc(found, func(a, b rated[K]) int { return cmp.Compare(b.bytes, a.bytes) })
	return found
}

func ratedBytes[K comparable](all []rated[K]) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for i := range all {
			if !yield(all[i].bytes) {
				return
			}
		}
	}
}
