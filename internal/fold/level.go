package fold

import "github.com/traffic-monitor-agent/tma/internal/epoch"

// level holds the prefixes of one length: at most room of them, the largest.
type level struct {
	bits     int // of the prefix in a 16-byte address, IPv4 from 96 on
	room     int
	entries  []prefixCount // ascending
	floor    uint64        // no entry has fewer bytes, if there is no room left
	incoming []prefixCount // not looked at yet, in any order; only from other ladders
}

// workspace is memory that all ladders use, one after the other.
type workspace struct {
	sorter sorter
	words  wordSorter
	// batch is the sums of one, incoming those of prefixes from other ladders, all
	// both or what a level keeps, and rests what two neighbouring levels have no
	// room for.
	batch, incoming, all []prefixCount
	rests                [2][]prefixCount
	candidates           []uint32 // numbers of the sums that may get an entry
	chosen, evicted      []prefixCount
	values               []uint64
}

// take counts sums, ascending prefixes of this level, among the entries. If there
// are more than there is room for, it appends what is under the smallest of them
// to rest, as prefixes of the given length, ascending.
func (l *level) take(w *workspace, sums, rest []prefixCount, restBits int) []prefixCount {
	if len(l.incoming) > 0 {
		w.incoming = w.sorted(l.incoming, w.incoming[:0])
		w.all = mergeSum(w.all[:0], sums, w.incoming)
		w.batch, w.all = w.all, w.batch
		sums, l.incoming = w.batch, l.incoming[:0]
	}
	l.count(w, sums)
	l.choose(w, sums)
	return appendRest(rest, sums, w.evicted, restBits)
}

// count adds to the entries what the sums have of them, and finds those among the
// others that may be larger than an entry. Sums that are counted become empty.
func (l *level) count(w *workspace, sums []prefixCount) {
	w.candidates = w.candidates[:0]
	entries, full := l.entries, len(l.entries) >= l.room
	for i := range sums {
		s := &sums[i]
		for len(entries) > 0 && entries[0].less(s.prefix) {
			entries = entries[1:]
		}
		switch {
		case len(entries) > 0 && entries[0].prefix == s.prefix:
			entries[0].Count.Add(s.Count)
			s.Count = epoch.Count{}
		case !full || s.Bytes > l.floor:
			w.candidates = append(w.candidates, uint32(i))
		}
	}
}

// choose lets the largest of the entries and the candidates be the entries. Sums
// that are counted become empty; entries that aren't any more are evicted.
func (l *level) choose(w *workspace, sums []prefixCount) {
	w.chosen, w.evicted = w.chosen[:0], w.evicted[:0]
	if len(w.candidates) == 0 {
		return
	}
	largest := Cut{Ties: len(w.candidates)}
	if n := len(l.entries) + len(w.candidates); n > l.room {
		largest = l.cut(w, sums)
		l.floor = largest.Threshold
		kept := l.entries[:0]
		for i := range l.entries {
			if e := &l.entries[i]; largest.Keeps(e.Bytes) {
				kept = append(kept, *e)
			} else {
				w.evicted = append(w.evicted, *e)
			}
		}
		l.entries = kept
	}
	for _, i := range w.candidates {
		if s := &sums[i]; largest.Keeps(s.Bytes) {
			w.chosen = append(w.chosen, *s)
			s.Count = epoch.Count{}
		}
	}
	w.all = mergeSum(w.all[:0], l.entries, w.chosen)
	l.entries = append(l.entries[:0], w.all...)
}

// cut finds where the largest of entries and candidates end for which there is room.
func (l *level) cut(w *workspace, sums []prefixCount) Cut {
	w.values = w.values[:0]
	for i := range l.entries {
		w.values = append(w.values, l.entries[i].Bytes)
	}
	for _, i := range w.candidates {
		w.values = append(w.values, sums[i].Bytes)
	}
	return CutAt(w.values, l.room)
}

// appendRest appends, as prefixes of the given length, sums that aren't empty and
// what was evicted, both ascending.
func appendRest(rest, sums, evicted []prefixCount, bits int) []prefixCount {
	mask := prefix{^uint64(0), ^uint64(0)}.masked(bits)
	for i := range sums {
		s := &sums[i]
		if s.Count == (epoch.Count{}) {
			continue
		}
		for len(evicted) > 0 && evicted[0].less(s.prefix) {
			rest, evicted = appendSum(rest, evicted[0].and(mask), evicted[0].Count), evicted[1:]
		}
		rest = appendSum(rest, s.and(mask), s.Count)
	}
	for i := range evicted {
		rest = appendSum(rest, evicted[i].and(mask), evicted[i].Count)
	}
	return rest
}

// sorted appends the sums of the prefixes in any order, ascending.
func (w *workspace) sorted(from, to []prefixCount) []prefixCount {
	w.sorter.items = w.sorter.items[:0]
	for i := range from {
		w.sorter.add(from[i].prefix, uint32(i))
	}
	w.sorter.sort()
	for i := range w.sorter.items {
		p := &w.sorter.items[i]
		to = appendSum(to, p.prefix, from[p.number].Count)
	}
	return to
}

// appendTo adds the level's prefixes to a ladder's entries.
func (l *level) appendTo(to []epoch.Prefix) []epoch.Prefix {
	for i := range l.entries {
		e := &l.entries[i]
		to = append(to, epoch.Prefix{Prefix: e.netip(l.bits), Count: e.Count})
	}
	return to
}
