package fold

import (
	"math/bits"
	"unsafe"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// tableWays is the number of places that a flow may take in the table.
const tableWays = 8

// Record is what the kernel counted under a key at one point: a slot of the cache
// or an eviction from it.
type Record struct {
	flow.Key
	Point uint16 // a device's number twice, plus the direction
	Hash  uint64 // of the key alone, so that all points of a flow share a set
	epoch.Count
}

// Half is one of the two epochs that are counted at a time: the one that the
// kernel writes to, and the one that is being closed.
type Half uint8

// entry is an observation of a flow: what one point saw of it. It stays after an
// epoch without traffic, for as long as nobody needs its place, because the point
// at which a flow is counted must not change while packets are between points.
type entry struct {
	flow.Key
	point   uint16
	hash    uint64
	counts  [2]epoch.Count // by Half
	used    bool
	primary bool  // the flow is counted here
	idle    uint8 // closed epochs since the last one with traffic
}

func (e *entry) active(h Half) bool { return e.counts[h] != epoch.Count{} }

func (e *entry) silent() bool { return !e.active(0) && !e.active(1) }

func (e *entry) is(r *Record) bool {
	return e.used && e.hash == r.Hash && e.point == r.Point && e.Key == r.Key
}

func (e *entry) sameFlow(o *entry) bool { return o.used && e.hash == o.hash && e.Key == o.Key }

func (e *entry) bytes() uint64 { return e.counts[0].Bytes + e.counts[1].Bytes }

// table is set-associative: bounded, with a place for every newcomer at the price
// of the smallest flow of its set.
type table struct{ entries []entry }

func newTable(entries int) table {
	sets := max(1, entries/tableWays)
	return table{make([]entry, sets*tableWays)}
}

// sets is the number of sets.
func (t *table) sets() int { return len(t.entries) / tableWays }

// set returns the i-th set.
func (t *table) set(i int) []entry { return t.entries[i*tableWays : (i+1)*tableWays] }

// find returns the set of a hash: the hash scaled to the number of sets (Lemire,
// "Fast random integer generation in an interval", 2019).
func (t *table) find(hash uint64) []entry {
	i, _ := bits.Mul64(hash, uint64(t.sets()))
	return t.set(int(i))
}

// place returns where a newcomer may go: a free entry, or the one that has been
// silent for longest; nil if all have traffic.
func place(set []entry) *entry {
	var best *entry
	for i := range set {
		e := &set[i]
		if !e.used {
			return e
		}
		if e.silent() && (best == nil || e.idle > best.idle) {
			best = e
		}
	}
	return best
}

// smallest returns the entry with the fewest bytes.
func smallest(set []entry) *entry {
	least := &set[0]
	for i := range set {
		if set[i].bytes() < least.bytes() {
			least = &set[i]
		}
	}
	return least
}

// EntryBytes is the memory that one of LedgerConfig's Entries takes.
const EntryBytes = int(unsafe.Sizeof(entry{}))
