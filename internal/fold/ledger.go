// Package fold keeps what was captured in bounded memory: when a structure is
// full, its smallest entry gives up detail and its count moves to a coarser place
// that always has room. Detail may be lost, bytes may not.
package fold

import (
	"math/bits"
	"unsafe"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
	"github.com/traffic-monitor-agent/tma/internal/sketch/cms"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
	"github.com/traffic-monitor-agent/tma/internal/sketch/pairs"
)

// LedgerConfig sizes a Ledger.
type LedgerConfig struct {
	Entries       int // flows, times the points at which each is seen
	LadderEntries int // prefixes a ladder level
	SketchWidth   int // columns of the Count-Min sketch of folded flows
	Points        int // records have points below this
	Key           siphash.Key
	// Resumes says that until now another ledger counted what the same points saw:
	// where packets were counted that are between points isn't known.
	Resumes bool
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
	numbers    [2]uint32    // of the epochs that the halves are of
	oldest     uint32       // the lower of the two
	forwarding uint32       // number of the epoch until which forwards holds
	strayed    uint32       // see noteStray
	left       uint32       // number of the last epoch in which a flow left unremembered
	books      [2]book      // by Half
	flows      []epoch.Flow // of the half that was closed last
	entries    int          // see Occupancy; Close begins with 0
	key        siphash.Key
	touched    uint64 // see table.touch
}

// book is what one half has besides the table.
type book struct {
	ladders    *Ladders
	folded     epoch.FoldedFlows
	foldedTags tagFilter     // which flows these may be
	duplicates []epoch.Count // by point
	all        epoch.Count   // that was folded
	doubtful   epoch.Count   // of that
	hidden     epoch.Count   // of duplicates
	unknown    bool          // all that was counted is doubtful
	distinct   distinct
	folds      uint64 // flows in folded
}

// NewLedger returns an empty ledger. Free gives its memory back.
func NewLedger(c LedgerConfig) *Ledger {
	l := &Ledger{table: newTable(c.Entries), numbers: [2]uint32{1, 2}, oldest: 1, left: longAgo, key: c.Key, ranks: make([]uint8, c.Points)}
	if l.forgotten = newForgotten(len(l.table.lines)); c.Resumes {
		l.forgotten.unknown = l.epoch
	}
	l.flows = newArray[epoch.Flow](len(l.table.entries))[:0]
	work, seed := &workspace{}, flow.NewHashSeed()
	pairSeed := pairs.SeedOf(c.Key)
	for h := range l.books {
		l.books[h] = book{
			ladders:    newLadders(max(1, c.LadderEntries), work),
			folded:     epoch.FoldedFlows{Sketch: cms.New(c.SketchWidth), Seed: seed},
			foldedTags: newTagFilter(len(l.table.lines)),
			duplicates: make([]epoch.Count, c.Points),
			distinct:   newDistinct(c.Key, pairSeed),
		}
	}
	return l
}

// EntryBytes is the memory that one of LedgerConfig's Entries takes.
const EntryBytes = entryBytes + forgottenBytes + 2*tagFilterBytes/tableWays + int(unsafe.Sizeof(epoch.Flow{}))

// Bytes is the memory of a ledger but for its samples of pairs, which belong to the
// exporter's windows: 1.4 MiB, more than a small budget has room for.
func (c *LedgerConfig) Bytes() int {
	half := c.LadderEntries*ladderBytes + c.SketchWidth*cms.CellBytes + 4*hll.Registers + c.Points*int(unsafe.Sizeof(epoch.Count{}))
	return c.Entries*EntryBytes + 2*half + c.LadderEntries*workspaceBytes
}

// Free gives back memory that the garbage collector doesn't know of. Neither the
// ledger nor the flows that Close handed out can be used any more.
func (l *Ledger) Free() {
	freeArray(l.flows)
	l.flows = nil
	for h := range l.books {
		freeArray(l.books[h].foldedTags)
	}
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
	e, way, similar := l.table.lookup(set, tag, r)
	if e == nil {
		if similar {
			l.foundForwarding() // at another point
		}
		if way = line.least(); line.weights[way]&weightActive != 0 {
			l.foldWay(set, way)
		}
		e = &l.table.entries[set*tableWays+way]
		l.forget(set, way)
		// Field by field: see appendSum.
		e.Key, e.point, e.role, e.last, e.size = r.Key, r.Point, roleObserver, l.epoch, 0
		line.tags[way] = tag
	}
	if !e.active(h) && !l.forwards() {
		l.books[h].distinct.insert(&e.Key)
	}
	l.table.add(e, h, r.Count)
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

// foundForwarding takes note that points share flows. If this is new, nobody knows
// where flows were counted that have left the table.
func (l *Ledger) foundForwarding() {
	if !l.forwards() && int32(l.oldest-l.left) <= primaryIdle {
		l.forgotten.unknown = l.oldest + 1
		l.books[0].unknown, l.books[1].unknown = true, true
	}
	l.table.shared = true
	l.forwarding = l.epoch + forwardingEpochs
}

// forwards says whether points of the host have shared flows lately.
func (l *Ledger) forwards() bool { return l.epoch < l.forwarding }

// Books is what Close hands out; it belongs to the ledger and is valid until the
// next Close.
type Books struct {
	Flows      []epoch.Flow
	Ladders    []epoch.Ladder
	Duplicates []epoch.Count // by point
	Sketches   []epoch.Sketch
	Folded     *epoch.FoldedFlows
	Doubtful   epoch.Count // see epoch.Epoch
	Hidden     epoch.Count // likewise
	Pairs      *pairs.Sample
}

// Close ends the epoch of a half and empties it.
func (l *Ledger) Close(h Half) Books {
	b := &l.books[h]
	l.flows, l.entries = l.flows[:0], 0
	l.epoch++
	l.numbers = [2]uint32{l.epoch + 1, l.epoch + 1}
	l.numbers[h], l.oldest = l.epoch, l.epoch
	for i, marks := range l.table.marks[h] {
		for ; marks != 0; marks &= marks - 1 {
			l.closeSet(i<<6+bits.TrailingZeros64(marks), h)
		}
	}
	clear(l.table.marks[h])
	l.numbers[h], l.oldest = l.epoch+2, l.epoch+1
	books := Books{
		Flows: l.flows, Ladders: b.ladders.Snapshot(), Duplicates: b.duplicates,
		Sketches: b.distinct.sketches(), Folded: &b.folded, Hidden: b.hidden,
		Pairs: b.distinct.pairs,
	}
	l.doubt(b, &books)
	return books
}

// Reset empties what Close handed out, before the half is used again.
func (l *Ledger) Reset(h Half) {
	b := &l.books[h]
	b.ladders.Reset()
	if b.folded.Sketch.Total() != 0 {
		b.folded.Sketch.Reset()
		clear(b.foldedTags)
	}
	b.distinct.reset()
	clear(b.duplicates)
	b.all, b.doubtful, b.hidden, b.unknown = epoch.Count{}, epoch.Count{}, epoch.Count{}, false
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
	l.entries++
	c := l.settle(set, way, h)
	if c.Count == (epoch.Count{}) {
		return
	}
	l.insertLate(b, e)
	f := epoch.Flow{Key: e.Key, Direction: directionOf(c.point), Count: c.Count}
	if b.foldedTags.has(set, l.table.lines[set].tags[way]) {
		f.Error = b.folded.Estimate(&f.Key)
	}
	if l.forwards() {
		f.Doubtful = c.doubtful
	}
	l.flows = append(l.flows, f)
}

// foldWay frees all entries of the flow that a way's entry is an observation of
// and folds what they have in either half.
func (l *Ledger) foldWay(set, way int) {
	victim := l.table.entries[set*tableWays+way]
	tag := l.table.lines[set].tags[way]
	l.forgetFlow(set, way)
	for _, h := range l.halves() {
		if !l.observed(set, way, h) {
			continue
		}
		if c := l.settle(set, way, h); c.Count != (epoch.Count{}) {
			b := &l.books[h]
			l.insertLate(b, &victim)
			b.folds++
			b.foldedTags.add(set, tag)
			b.folded.Sketch.Add(victim.Key.Hash(b.folded.Seed), c.Bytes)
			b.ladders.Add(l.classifier.Class(&victim.Key), &victim.Key, c.Count)
			b.all.Add(c.Count)
			b.doubtful.Add(c.doubts())
			if l.remembers(set) {
				l.forgotten.note(set, tag, c.point, c.doubt, l.numbers[h], l.oldest, c.Bytes)
			}
		}
	}
	if l.table.alone(set, way) {
		l.table.clear(set, way)
		return
	}
	for other := range tableWays {
		if victim.sameFlow(&l.table.entries[set*tableWays+other]) {
			l.table.clear(set, other)
		}
	}
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
