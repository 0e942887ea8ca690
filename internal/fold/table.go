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
	primary bool   // the flow is counted here
	last    uint32 // number of the last epoch in which it had traffic
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
type table struct {
	entries []entry
	// By half: which sets have traffic, as a list and as bits. Closing an epoch
	// of a quiet host costs little however large the table is.
	touched [2][]uint32
	marks   [2][]uint64
}

func newTable(entries int) table {
	sets := max(1, entries/tableWays)
	t := table{entries: make([]entry, sets*tableWays)}
	for h := range t.marks {
		t.marks[h] = make([]uint64, (sets+63)/64)
	}
	return t
}

// touch notes that a set has traffic in a half.
func (t *table) touch(set int, h Half) {
	word, bit := &t.marks[h][set/64], uint64(1)<<(set%64)
	if *word&bit == 0 {
		*word |= bit
		t.touched[h] = append(t.touched[h], uint32(set))
	}
}

// untouch forgets which sets have traffic in a half.
func (t *table) untouch(h Half) {
	clear(t.marks[h])
	t.touched[h] = t.touched[h][:0]
}

// sets is the number of sets.
func (t *table) sets() int { return len(t.entries) / tableWays }

// set returns the i-th set.
func (t *table) set(i int) []entry { return t.entries[i*tableWays : (i+1)*tableWays] }

// find returns the number of the set of a hash: the hash scaled to the number of sets (Lemire,
// "Fast random integer generation in an interval", 2019).
func (t *table) find(hash uint64) int {
	i, _ := bits.Mul64(hash, uint64(t.sets()))
	return int(i)
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
		if e.silent() && (best == nil || e.last < best.last) {
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
