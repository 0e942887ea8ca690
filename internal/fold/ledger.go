// Package fold keeps what was captured in bounded memory: when a structure is
// full, its smallest entry gives up detail and its count moves to a coarser place
// that always has room. Detail may be lost, bytes may not.
package fold

import (
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
)

// LedgerConfig sizes a Ledger.
type LedgerConfig struct {
	Entries       int // flows, times the points at which each is seen
	LadderEntries int // prefixes a ladder level
	Points        int // records have points below this
	Key           siphash.Key
}

// Ledger books the records of a host's kernel program: each is counted under its
// flow, or folded into the ladders, or is a duplicate of the same packets seen at
// another point. What was added for a half comes out of Close for that half, to
// the byte. Not safe for concurrent use.
type Ledger struct {
	table      table
	classifier Classifier
	ranks      []uint8
	epoch      uint32  // number of the last one that was closed
	books      [2]book // by Half
	key        siphash.Key
}

// book is what one half has besides the table.
type book struct {
	flows      []epoch.Flow
	ladders    *Ladders
	duplicates []epoch.Count // by point
	distinct   distinct
}

// NewLedger returns an empty ledger.
func NewLedger(c LedgerConfig) *Ledger {
	l := &Ledger{table: newTable(c.Entries), key: c.Key, ranks: make([]uint8, c.Points)}
	for h := range l.books {
		l.books[h] = book{
			ladders:    NewLadders(c.LadderEntries),
			duplicates: make([]epoch.Count, c.Points),
			distinct:   newDistinct(c.Key),
		}
	}
	return l
}

// SetClassifier says which host answers for what is folded from now on.
func (l *Ledger) SetClassifier(c Classifier) { l.classifier = c }

// SetRank says how good a place a point is to count flows at that several points
// see; the lowest rank counts.
func (l *Ledger) SetRank(point uint16, rank uint8) { l.ranks[point] = rank }

// Add books a record.
func (l *Ledger) Add(h Half, r *Record) {
	number := l.table.find(r.Hash)
	l.table.touch(number, h)
	set := l.table.set(number)
	for i := range set {
		if set[i].is(r) {
			set[i].counts[h].Add(r.Count)
			return
		}
	}
	e := place(set)
	if e == nil {
		e = smallest(set)
		l.foldFlow(set, e)
	}
	*e = entry{Key: r.Key, point: r.Point, hash: r.Hash, used: true, last: l.epoch}
	e.counts[h] = r.Count
}

// Books is what Close hands out; it belongs to the ledger and is valid until that
// half's next Close.
type Books struct {
	Flows      []epoch.Flow
	Ladders    []epoch.Ladder
	Duplicates []epoch.Count // by point
	Sketches   []epoch.Sketch
}

// Close ends the epoch of a half and empties it.
func (l *Ledger) Close(h Half) Books {
	b := &l.books[h]
	b.flows = b.flows[:0]
	l.epoch++
	for _, set := range l.table.touched[h] {
		l.closeSet(l.table.set(int(set)), h)
	}
	l.table.untouch(h)
	return Books{Flows: b.flows, Ladders: b.ladders.Snapshot(), Duplicates: b.duplicates, Sketches: b.distinct.sketches()}
}

// Reset empties what Close handed out, before the half is used again.
func (l *Ledger) Reset(h Half) {
	b := &l.books[h]
	b.ladders.Reset()
	b.distinct.reset()
	clear(b.duplicates)
}

// closeSet moves each flow of a set that has traffic in the half to its book.
func (l *Ledger) closeSet(set []entry, h Half) {
	for i := range set {
		if e := &set[i]; e.used && e.active(h) {
			l.closeFlow(set, e, h)
		}
	}
}

// closeFlow books the flow that e is an observation of, from all its points.
func (l *Ledger) closeFlow(set []entry, e *entry, h Half) {
	b := &l.books[h]
	if c := l.settle(set, e, h); c != (epoch.Count{}) {
		b.distinct.insert(&e.Key)
		direction := directionOf(l.primary(set, e).point)
		b.flows = append(b.flows, epoch.Flow{Key: e.Key, Direction: direction, Count: c})
	}
}

// foldFlow frees all entries of the flow that e is an observation of and folds
// what they have in either half.
func (l *Ledger) foldFlow(set []entry, e *entry) {
	victim := *e
	for h := range l.books {
		if c := l.settle(set, &victim, Half(h)); c != (epoch.Count{}) {
			b := &l.books[h]
			b.distinct.insert(&victim.Key)
			b.ladders.Add(l.classifier.Class(&victim.Key), &victim.Key, c)
		}
	}
	for i := range set {
		if victim.sameFlow(&set[i]) {
			set[i] = entry{}
		}
	}
}
