package fold

import (
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// A flow that crosses several devices of a host is counted at one point, its
// primary, and what the others saw of it are duplicates. The primary stays as long
// as it has traffic and for one epoch more: packets that it saw at the end of one
// epoch pass the next point at the beginning of the following one, and must not
// count again.
//
// # What may be wrong, and how it is bounded
//
// All that follows supposes that the points of a host see a packet within the time
// of an epoch, so that it belongs to the same epoch at all of them or to one of two
// neighbouring ones, and that what a point saw comes in before its epoch is closed.
//
// Counted twice. A packet counts twice if it was counted at one point and another
// one is the primary when the packet's record from there is settled. A primary that
// is known, in the table or in forgotten, is replaced when it had no traffic in an
// epoch and the one before; of what it counted nothing is on its way any more. So
// the new one was elected without knowledge, in a set of forgotten that has lost a
// flow that mattered, and the packet was counted in the epoch e of the election or
// in one next to it. It passes the new primary in e or e+1: later ones were seen at
// the old one after the election, where they are duplicates. So what the new primary
// counts in these two epochs is doubtful, but not more of it than flows had counted
// that the set lost. A flow that was never counted is taken for one that was lost;
// the other way round isn't possible.
//
// Counted nowhere. A packet that a point saw and that counted at none has a record
// among the duplicates of each of its points. If the primary saw as much as the
// other point did, in the same epoch, it saw the same packets: what is hidden at the
// other point is what it has more. That isn't enough in three cases, where all of
// a point's duplicates are hidden: the primary isn't there (it had no traffic, or it
// is remembered but not in the table); the point is new while the primary isn't, as
// after a change of the path in the middle of an epoch; or the primary was elected
// without knowledge in this epoch or the last one, and took over from a point behind
// it, at which what it saw before was to count.

// primaryIdle is for how many epochs a primary stays without traffic.
const primaryIdle = 1

// doubtEpochs is for how many epochs, that of its election included, a primary
// counts doubtful bytes that was elected without knowledge.
const doubtEpochs = 2

// directionOf returns the direction of a point.
func directionOf(point uint16) flow.Direction { return flow.Direction(point & 1) }

// halves returns the two halves, that of the earlier epoch first.
func (l *Ledger) halves() [2]Half {
	if int32(l.numbers[0]-l.numbers[1]) > 0 {
		return [2]Half{1, 0}
	}
	return [2]Half{0, 1}
}

// settled is what counts of a flow in a half.
type settled struct {
	epoch.Count
	point    uint16
	doubt    uint8  // that the primary has left, see entry.doubt
	doubtful uint64 // bytes that may be counted already
}

// doubts returns what of the count may be counted already.
func (s *settled) doubts() epoch.Count {
	return epoch.Count{Packets: min(s.Packets, s.doubtful), Bytes: s.doubtful}
}

// settle takes what all points saw in the half of the flow that a way's entry is an
// observation of, books the duplicates and returns what counts: the primary's. Some
// point must have seen it in the half.
func (l *Ledger) settle(set, way int, h Half) settled {
	entries, line := l.table.set(set), &l.table.lines[set]
	if !l.table.alone(set, way) {
		l.entries += observations(entries, &entries[way], h) - 1
		s := l.settleAmong(set, way, entries, h)
		l.table.reweigh(set)
		return s
	}
	e := &entries[way]
	s := settled{point: e.point}
	switch {
	case !l.remembers(set):
		s.Count = l.table.take(e, h)
		e.role, e.last, e.size = rolePrimary, l.numbers[h], anySize
	case e.role == rolePrimary:
		s.Count = l.table.settle(e, h, l.numbers[h])
	default:
		s = l.settleAmong(set, way, entries[way:way+1], h)
	}
	line.weights[way] = e.weight()
	return s
}

// settleAmong does so for a flow all of whose observations are among the entries.
func (l *Ledger) settleAmong(set, way int, entries []entry, h Half) (s settled) {
	number := l.numbers[h]
	primary, point := l.primaryOf(set, way, entries, h)
	if primary != nil {
		s = settled{Count: l.table.count(primary, h), point: point, doubt: primary.doubtIn(number)}
	}
	if s.doubt > 0 {
		s.doubtful = min(s.Bytes, l.forgotten.lost(set, point, number))
	}
	l.bookDuplicates(set, way, entries, primary, h)
	if s.Count != (epoch.Count{}) {
		l.table.settle(primary, h, number)
	}
	return s
}

// settle empties an entry's half, which is of the epoch of the number, and returns
// what was counted there.
func (t *table) settle(e *entry, h Half, number uint32) epoch.Count {
	c := t.take(e, h)
	if e.isPrimary() {
		e.role = rolePrimary + role(e.doubtIn(number))
	}
	e.last, e.size = number, max(1, size16(0).plus(c.Bytes).short())
	return c
}

// doubtIn returns what is left of an entry's doubt in an epoch.
func (e *entry) doubtIn(number uint32) uint8 {
	if passed := int32(number - e.last); passed > 0 {
		return uint8(max(0, int32(e.doubt())-passed))
	}
	return e.doubt()
}

// primaryOf returns where a flow is counted in a half, electing a point if there is
// none; nil if that point isn't among the entries.
func (l *Ledger) primaryOf(set, way int, entries []entry, h Half) (primary *entry, point uint16) {
	number, e := l.numbers[h], &l.table.entries[set*tableWays+way]
	if primary = primaryAmong(entries, e); primary != nil {
		if !primary.active(h) && int32(number-primary.last) > primaryIdle {
			primary = l.elect(entries, e, h) // of what the old one counted nothing is on its way
		}
		return primary, primary.point
	}
	known := l.forgotten.find(set, l.table.lines[set].tags[way])
	if known != nil && known.matters(number) {
		return l.restore(entries, e, known, number), known.point
	}
	primary = l.elect(entries, e, h)
	if known == nil && l.forgotten.lost(set, primary.point, number) > 0 {
		primary.role, primary.last = rolePrimary+doubtEpochs, number
	}
	return primary, primary.point
}

// primaryAmong returns the entry at which e's flow is counted, nil if none was
// elected.
func primaryAmong(entries []entry, e *entry) *entry {
	for i := range entries {
		if entries[i].isPrimary() && e.sameFlow(&entries[i]) {
			return &entries[i]
		}
	}
	return nil
}

// elect makes the best-ranked point with traffic in the half the flow's primary,
// ingress before egress: of a forwarded packet that is the earlier one.
func (l *Ledger) elect(entries []entry, e *entry, h Half) *entry {
	var best *entry
	for i := range entries {
		o := &entries[i]
		if !e.sameFlow(o) {
			continue
		}
		o.role = roleObserver
		if o.active(h) && (best == nil || l.better(o.point, best.point)) {
			best = o
		}
	}
	best.role = rolePrimary
	return best
}

func (l *Ledger) better(a, b uint16) bool {
	if l.ranks[a] != l.ranks[b] {
		return l.ranks[a] < l.ranks[b]
	}
	if directionOf(a) != directionOf(b) {
		return directionOf(a) == flow.Ingress
	}
	return a < b
}

// restore makes the point at which e's flow was counted before it left the table
// the primary again; nil if that one isn't among the entries.
func (l *Ledger) restore(entries []entry, e *entry, known *forgottenFlow, number uint32) *entry {
	for i := range entries {
		if o := &entries[i]; o.point == known.point && e.sameFlow(o) {
			o.role, o.last = rolePrimary+role(known.doubt), known.last(number)
			o.size = max(1, o.size) // it was settled, and other points are new to it
			return o
		}
	}
	l.noteStray()
	return nil
}

// bookDuplicates books what the points saw in the half of e's flow, but for the
// primary, which may be nil, and what of it may have counted nowhere.
func (l *Ledger) bookDuplicates(set, way int, entries []entry, primary *entry, h Half) {
	e, b := &l.table.entries[set*tableWays+way], &l.books[h]
	var hidden epoch.Count
	for i := range entries {
		o := &entries[i]
		if o == primary || !o.active(h) || !e.sameFlow(o) {
			continue
		}
		hidden.Add(l.hiddenAt(o, primary, h))
		b.duplicates[o.point].Add(l.table.settle(o, h, l.numbers[h]))
	}
	if hidden != (epoch.Count{}) {
		b.hidden.Add(hidden)
		b.foldedTags.add(set, l.table.lines[set].tags[way])
		b.folded.Sketch.Add(e.Key.Hash(b.folded.Seed), hidden.Bytes)
	}
}

// hiddenAt returns what of o's duplicates may have counted nowhere.
func (l *Ledger) hiddenAt(o, primary *entry, h Half) epoch.Count {
	seen := l.table.count(o, h)
	switch {
	case primary == nil, primary.doubtIn(l.numbers[h]) > 0, o.size == 0 && primary.size != 0:
		return seen
	}
	counted := l.table.count(primary, h)
	return epoch.Count{
		Packets: seen.Packets - min(seen.Packets, counted.Packets),
		Bytes:   seen.Bytes - min(seen.Bytes, counted.Bytes),
	}
}

// remembers says whether it is remembered where the flows of a set were counted
// when they leave the table: where points share flows, and of one set in 64 to
// find that out, if the table is too small for two observations of a flow to meet.
func (l *Ledger) remembers(set int) bool { return set&63 == 0 || l.forwards() }

// forgetFlow remembers the primary of the flow that a way's entry is an observation
// of, which is about to lose its places.
func (l *Ledger) forgetFlow(set, way int) {
	if !l.remembers(set) {
		l.left = l.oldest + 1
		return
	}
	if l.table.alone(set, way) {
		l.forget(set, way)
		return
	}
	entries := l.table.set(set)
	for other := range entries {
		if entries[way].sameFlow(&entries[other]) {
			l.forget(set, other)
		}
	}
}

// forget remembers a way's entry, if it is a primary that may have counted packets
// that are on their way to other points.
func (l *Ledger) forget(set, way int) {
	e := &l.table.entries[set*tableWays+way]
	if !e.isPrimary() || int32(l.oldest-e.last) > primaryIdle {
		return
	}
	if !l.remembers(set) {
		l.left = l.oldest + 1
		return
	}
	l.forgotten.note(set, l.table.lines[set].tags[way], e.point, e.doubt(), e.last, l.oldest, e.size.bytes())
}

// noteStray notes a flow that was counted at another point before it left the table.
// Two of them in neighbouring epochs show that the host forwards: one may have been
// taken for another by its tag.
func (l *Ledger) noteStray() {
	if l.strayed != 0 && l.epoch+1-l.strayed <= 1 {
		l.foundForwarding()
	}
	l.strayed = l.epoch + 1
}

// doubt says what of an epoch may be counted twice: what was found while it was
// counted; all of it, if the host was found to forward when flows had left the table
// already; nothing where it doesn't forward.
func (l *Ledger) doubt(b *book, books *Books) {
	switch {
	case b.unknown:
		books.Doubtful = b.all
		for i := range books.Flows {
			books.Flows[i].Doubtful = books.Flows[i].Bytes
		}
	case l.forwards():
		books.Doubtful = b.doubtful
	}
}
