// Package fold keeps what was captured in bounded memory: when a structure is
// full, its smallest entry gives up detail and its count moves to a coarser place
// that always has room. Detail may be lost, bytes may not.
package fold

import (
	"math/bits"
	"unsafe"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/cms"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// LedgerConfig sizes a Ledger.
type LedgerConfig struct {
	Entries       int // flows, times the points at which each is seen
	LadderEntries int // prefixes a ladder level
	SketchWidth   int // columns of the Count-Min sketch of folded flows
	Points        int // records have points below this
	Key           siphash.Key
}

// Ledger books the records of a host's kernel program: each is counted under its
// flow, or folded into the ladders, or is a duplicate of the same packets seen at
// another point. What was added for a half comes out of Close for that half, to
// the byte. Not safe for concurrent use.
type Ledger struct {
	table      table
	forgotten  forgotten
	classifier Classifier
	ranks      []uint8
	epoch      uint32       // number of the last one that was closed
	forwarding uint32       // number of the epoch until which forwards holds
	books      [2]book      // by Half
	flows      []epoch.Flow // of the half that was closed last
	entries    int          // see Books; only Close reads it, what foldWay adds goes nowhere
	key        siphash.Key
	touched    uint64 // see table.touch
}

// book is what one half has besides the table.
type book struct {
	ladders    *Ladders
	folded     *cms.Sketch   // bytes of folded flows, by identity
	duplicates []epoch.Count // by point
	distinct   distinct
	folds      uint64 // flows in folded
}

// NewLedger returns an empty ledger. Free gives its memory back.
func NewLedger(c LedgerConfig) *Ledger {
	l := &Ledger{table: newTable(c.Entries), forgotten: newForgotten(c.Entries), key: c.Key, ranks: make([]uint8, c.Points)}
	l.flows = newArray[epoch.Flow](len(l.table.entries))[:0]
	work := &workspace{}
	for h := range l.books {
		l.books[h] = book{
			ladders:    newLadders(max(1, c.LadderEntries), work),
			folded:     cms.New(c.SketchWidth),
			duplicates: make([]epoch.Count, c.Points),
			distinct:   newDistinct(c.Key),
		}
	}
	return l
}

// EntryBytes is the memory that one of LedgerConfig's Entries takes.
const EntryBytes = entryBytes + forgottenBytes + int(unsafe.Sizeof(epoch.Flow{}))

// Bytes is the memory of a ledger.
func (c *LedgerConfig) Bytes() int {
	half := c.LadderEntries*ladderBytes + c.SketchWidth*cms.CellBytes + 4*hll.Registers + c.Points*int(unsafe.Sizeof(epoch.Count{}))
	return c.Entries*EntryBytes + 2*half + c.LadderEntries*workspaceBytes
}

// Free gives back memory that the garbage collector doesn't know of. Neither the
// ledger nor the flows that Close handed out can be used any more.
func (l *Ledger) Free() {
	freeArray(l.flows)
	l.flows = nil
	l.table.free()
	l.forgotten.free()
}

// SetClassifier says which host answers for what is folded from now on.
func (l *Ledger) SetClassifier(c Classifier) { l.classifier = c }

// SetRank says how good a place a point is to count flows at that several points
// see; the lowest rank counts.
func (l *Ledger) SetRank(point uint16, rank uint8) { l.ranks[point] = rank }

// AddBatch books records, each in its half. Some tens of them together wait for
// memory once rather than one after the other.
func (l *Ledger) AddBatch(halves []Half, records []Record) {
	for len(records) > 0 {
		n := min(touchAtOnce, len(records))
		l.touched += l.table.touch(records[:n])
		for i := range n {
			l.Add(halves[i], &records[i])
		}
		halves, records = halves[n:], records[n:]
	}
}

// Add books a record.
func (l *Ledger) Add(h Half, r *Record) {
	set, tag := l.table.find(r.Hash), tagOf(r.Hash)
	l.table.mark(set, h)
	line := &l.table.lines[set]
	e, way := l.table.lookup(set, tag, r)
	if e == nil {
		l.noteForwarding(set, tag)
		if way = line.least(); line.weights[way]&weightActive != 0 {
			l.foldWay(set, way)
		}
		e = &l.table.entries[set*tableWays+way]
		l.forget(set, way)
		*e = entry{Key: r.Key, point: r.Point, used: true, last: l.epoch}
		line.tags[way] = tag
	}
	if !e.active(h) && !l.forwards() {
		l.books[h].distinct.insert(&e.Key)
	}
	e.counts[h].Add(r.Count)
	line.weights[way] = e.weight()
}

// insertLate inserts a counted flow into the sketches of distinct things. Where
// points share flows it isn't known earlier that a flow counts in this epoch, and
// that not just the last packets of the one before pass another point; elsewhere
// Add has done it, which makes the end of an epoch shorter. When a host begins or
// ceases to forward, some flows are inserted twice, which changes nothing.
func (l *Ledger) insertLate(b *book, e *entry) {
	if l.epoch < l.forwarding+2 {
		b.distinct.insert(&e.Key)
	}
}

// forwardingEpochs is for how long a host remembers that points share flows.
const forwardingEpochs = 1200

// noteForwarding notes that a flow which comes to a set is already there at
// another point, as its tag says.
func (l *Ledger) noteForwarding(set int, tag uint32) {
	if l.table.lines[set].match(tag) != 0 {
		l.forwarding = l.epoch + forwardingEpochs
	}
}

// forwards says whether points of the host have shared flows lately. Where none
// did, nothing has to be remembered of flows that leave the table.
func (l *Ledger) forwards() bool { return l.epoch < l.forwarding }

// pointOf returns where a flow was counted before it left the table.
func (l *Ledger) pointOf(id uint64) (point uint16, ok bool) {
	if !l.forwards() {
		return 0, false
	}
	return l.forgotten.point(id, l.epoch)
}

// forget remembers the point of a flow that is about to lose its place.
func (l *Ledger) forget(set, way int) {
	if !l.forwards() {
		return
	}
	if e := &l.table.entries[set*tableWays+way]; e.used && e.primary && l.epoch-e.last <= primaryIdle {
		l.forgotten.add(identity(set, l.table.lines[set].tags[way]), e.point, e.last)
	}
}

// Books is what Close hands out; it belongs to the ledger and is valid until the
// next Close.
type Books struct {
	Flows      []epoch.Flow
	Ladders    []epoch.Ladder
	Duplicates []epoch.Count // by point
	Sketches   []epoch.Sketch
	Entries    int    // of the table that had traffic: flows, once for each point that saw them
	Folds      uint64 // flows that had traffic and lost their place
}

// Close ends the epoch of a half and empties it.
func (l *Ledger) Close(h Half) Books {
	b := &l.books[h]
	l.flows, l.entries = l.flows[:0], 0
	l.epoch++
	for i, marks := range l.table.marks[h] {
		for ; marks != 0; marks &= marks - 1 {
			l.closeSet(i<<6+bits.TrailingZeros64(marks), h)
		}
	}
	clear(l.table.marks[h])
	return Books{
		Flows: l.flows, Ladders: b.ladders.Snapshot(), Duplicates: b.duplicates, Sketches: b.distinct.sketches(),
		Entries: l.entries, Folds: b.folds,
	}
}

// Reset empties what Close handed out, before the half is used again.
func (l *Ledger) Reset(h Half) {
	b := &l.books[h]
	b.ladders.Reset()
	b.folded.Reset()
	b.distinct.reset()
	clear(b.duplicates)
	b.folds = 0
}

// closeSet moves each flow of a set that has traffic in the half to its book.
func (l *Ledger) closeSet(set int, h Half) {
	line, entries := &l.table.lines[set], l.table.set(set)
	for way := range entries {
		// The line is asked first: entries without traffic stay out of the cache.
		if line.weights[way]&weightActive != 0 && entries[way].active(h) {
			l.closeFlow(set, way, h)
		}
	}
}

// closeFlow books the flow that a way's entry is an observation of, from all its
// points.
func (l *Ledger) closeFlow(set, way int, h Half) {
	b, e := &l.books[h], &l.table.entries[set*tableWays+way]
	id := identity(set, l.table.lines[set].tags[way])
	l.entries++
	c, point := l.settleOnce(set, way, id, h)
	if c == (epoch.Count{}) {
		return
	}
	l.insertLate(b, e)
	f := epoch.Flow{Key: e.Key, Direction: directionOf(point), Count: c}
	if b.folded.Total() != 0 {
		f.Error = b.folded.Estimate(id)
	}
	l.flows = append(l.flows, f)
}

// foldWay frees all entries of the flow that a way's entry is an observation of
// and folds what they have in either half.
func (l *Ledger) foldWay(set, way int) {
	victim := l.table.entries[set*tableWays+way]
	id := identity(set, l.table.lines[set].tags[way])
	for h := range l.books {
		if !l.observed(set, way, Half(h)) {
			continue
		}
		if c, _ := l.settleOnce(set, way, id, Half(h)); c != (epoch.Count{}) {
			b := &l.books[h]
			l.insertLate(b, &victim)
			b.folds++
			b.folded.Add(id, c.Bytes)
			b.ladders.Add(l.classifier.Class(&victim.Key), &victim.Key, c)
		}
	}
	if l.table.alone(set, way) {
		l.forget(set, way)
		l.table.clear(set, way)
		return
	}
	for other := range tableWays {
		if victim.sameFlow(&l.table.entries[set*tableWays+other]) {
			l.forget(set, other)
			l.table.clear(set, other)
		}
	}
}

// observations counts the points that saw e's flow in the half.
func observations(set []entry, e *entry, h Half) (n int) {
	for i := range set {
		if set[i].active(h) && e.sameFlow(&set[i]) {
			n++
		}
	}
	return n
}

// observed says whether any point saw in the half the flow that a way's entry is
// an observation of.
func (l *Ledger) observed(set, way int, h Half) bool {
	entries := l.table.set(set)
	if e := &entries[way]; e.active(h) || l.table.alone(set, way) {
		return e.active(h)
	}
	for i := range entries {
		if entries[i].active(h) && entries[way].sameFlow(&entries[i]) {
			return true
		}
	}
	return false
}

// settleOnce takes what all points saw of a flow in the half out of the set, books
// the duplicates and returns what counts and where, also if the flow was folded
// before and had its primary then. Some point must have seen it in the half.
func (l *Ledger) settleOnce(set, way int, id uint64, h Half) (counted epoch.Count, at uint16) {
	entries := l.table.set(set)
	e := &entries[way]
	if !l.table.alone(set, way) {
		defer l.table.reweigh(set)
		l.entries += observations(entries, e, h) - 1
		if l.primary(entries, e) == nil {
			if point, ok := l.pointOf(id); ok && !restore(entries, e, point) {
				l.bookDuplicates(entries, e, h)
				return epoch.Count{}, point
			}
		}
		counted = l.settle(entries, e, h)
		return counted, l.primary(entries, e).point
	}
	// What settle does, for the only observation of a flow.
	counted, at = e.counts[h], e.point
	e.counts[h], e.last = epoch.Count{}, l.epoch
	l.table.lines[set].weights[way] = e.weight()
	if !e.primary {
		if point, ok := l.pointOf(id); ok && point != at {
			l.books[h].duplicates[at].Add(counted)
			return epoch.Count{}, point
		}
		e.primary = true
	}
	return counted, at
}

// restore makes the point's entry of e's flow the primary, if there is one.
func restore(set []entry, e *entry, point uint16) bool {
	for i := range set {
		if o := &set[i]; o.point == point && e.sameFlow(o) {
			o.primary = true
			return true
		}
	}
	return false
}

// bookDuplicates takes what all points saw of e's flow in the half out of the set:
// it was counted at a point that isn't there any more.
func (l *Ledger) bookDuplicates(set []entry, e *entry, h Half) {
	for i := range set {
		if o := &set[i]; o.active(h) && e.sameFlow(o) {
			l.books[h].duplicates[o.point].Add(o.counts[h])
			o.counts[h], o.last = epoch.Count{}, l.epoch
		}
	}
}
