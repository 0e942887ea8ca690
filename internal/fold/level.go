package fold

import "github.com/traffic-monitor-agent/tma/internal/epoch"

// level holds the prefixes of one length: at most room of them, the largest.
type level struct {
	bits     int // of the prefix in a 16-byte address, IPv4 from 96 on
	room     int
	entries  []prefixCount // ascending
	incoming []prefixCount // not looked at yet, in any order; only from other ladders
}

// workspace is memory that all ladders use, one after the other.
type workspace struct {
	sorter sorter
	// batch is the sums of one, incoming those of prefixes from other ladders, all
	// a level's candidates, and rests what two neighbouring levels have no room for.
	batch, incoming, all []prefixCount
	rests                [2][]prefixCount
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
	if len(sums) == 0 {
		return rest
	}
	all := mergeSum(w.all[:0], l.entries, sums)
	w.all = all
	l.entries = l.entries[:0]
	if len(all) <= l.room {
		l.entries = append(l.entries, all...)
		return rest
	}
	largest := w.largest(all, l.room)
	for i := range all {
		e := &all[i]
		if largest.keeps(e.Bytes) {
			l.entries = append(l.entries, *e)
		} else {
			rest = appendSum(rest, e.masked(restBits), e.Count)
		}
	}
	return rest
}

// largest finds where the n largest end.
func (w *workspace) largest(all []prefixCount, n int) cut {
	w.values = w.values[:0]
	for i := range all {
		w.values = append(w.values, all[i].Bytes)
	}
	return cutAt(w.values, n)
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
