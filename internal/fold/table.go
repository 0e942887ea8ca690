package fold

import (
	"math"
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
//
// It is one cache line. So its counts, by Half, are of 32 and 40 bits; the table
// keeps those elsewhere that don't fit.
type entry struct {
	flow.Key
	point     uint16
	last      uint32 // number of the last epoch in which it had traffic
	packets   [2]uint32
	bytesLow  [2]uint32
	bytesHigh [2]uint8
	size      size8 // bytes in the epoch of last; 0 until an epoch was settled
	role      role
}

// role is what an entry is to its flow. What is more than rolePrimary is for how many
// epochs, from the entry's last on, what is counted there may be counted already.
type role uint8

const (
	roleFree     role = iota // none: the place is free
	roleObserver             // its counts are duplicates, or nothing is settled yet
	rolePrimary              // the flow is counted here
)

func (e *entry) isPrimary() bool { return e.role >= rolePrimary }

// doubt returns for how many epochs what is counted here is doubtful.
func (e *entry) doubt() uint8 { return uint8(max(e.role, rolePrimary) - rolePrimary) }

const (
	// elsewhere stands for a number of packets that the table keeps.
	elsewhere = math.MaxUint32
	// maxBytes is as many as an entry holds, 100 Gbit/s for a minute and a half.
	maxBytes = 1<<40 - 1
)

// active says whether the entry has traffic in a half; there are no bytes without
// packets.
func (e *entry) active(h Half) bool { return e.packets[h] != 0 }

func (e *entry) bytes(h Half) uint64 { return uint64(e.bytesLow[h]) | uint64(e.bytesHigh[h])<<32 }

func (e *entry) set(h Half, packets uint32, bytes uint64) {
	e.packets[h], e.bytesLow[h], e.bytesHigh[h] = packets, uint32(bytes), uint8(bytes>>32)
}

func (e *entry) is(r *Record) bool { return e.role != roleFree && e.point == r.Point && e.Key == r.Key }

func (e *entry) sameFlow(o *entry) bool { return o.role != roleFree && e.Key == o.Key }

// line is what is looked at first of a set, one cache line: whose flows are in
// it, and which of them goes.
type line struct {
	tags [tableWays]uint32 // of the flows' hashes; 0 is free
	// weights order the ways by who goes first: 0 is free, then those without
	// traffic by the number of their last epoch, then by bytes those with traffic,
	// which have the top bit.
	weights [tableWays]uint32
}

const weightActive = 1 << 31

// weight is what the entry's line says of it.
func (e *entry) weight() uint32 {
	switch {
	case e.role == roleFree:
		return 0
	case e.active(0) || e.active(1):
		return weightActive | uint32(min(e.bytes(0)+e.bytes(1), weightActive-1))
	}
	return min(e.last, weightActive-1)
}

// match returns a bit for each way with the tag.
func (l *line) match(tag uint32) uint32 {
	// One less than the difference has its top bit only if they are equal: no
	// branch, which would be mispredicted in every other set.
	var ways uint64
	for way, t := range l.tags {
		ways |= (uint64(t^tag) - 1) >> 63 << way
	}
	return uint32(ways)
}

// least returns the way that goes first.
func (l *line) least() int {
	best := uint64(l.weights[0]) << 3
	for way := 1; way < tableWays; way++ {
		best = minimum(best, uint64(l.weights[way])<<3|uint64(way))
	}
	return int(best & (tableWays - 1))
}

// minimum has no branch, unlike what the compiler makes of a chain of min.
func minimum(a, b uint64) uint64 {
	difference, borrow := bits.Sub64(a, b, 0)
	return b + difference&-borrow
}

// table is set-associative: bounded, with a place for every newcomer at the price
// of the smallest flow of its set.
type table struct {
	lines   []line
	entries []entry
	// By half, a bit for each set that has traffic: closing an epoch of a quiet
	// host costs little however large the table is.
	marks [2][]uint64
	// shared says whether two entries of a flow have ever been in the table. On
	// hosts that don't forward there are none, and nothing has to look for them.
	shared bool
	large  map[observation]epoch.Count // what doesn't fit its entry
}

// observation is what an entry has in one half.
type observation struct {
	*entry
	Half
}

// entryBytes is the memory that an entry takes in the table.
const entryBytes = int(unsafe.Sizeof(entry{}) + unsafe.Sizeof(line{})/tableWays)

func newTable(entries int) table {
	sets := max(1, entries/tableWays)
	t := table{lines: newArray[line](sets), entries: newArray[entry](sets * tableWays)}
	for h := range t.marks {
		t.marks[h] = make([]uint64, (sets+63)/64)
	}
	return t
}

// add counts at an entry.
func (t *table) add(e *entry, h Half, c epoch.Count) {
	packets, bytes := uint64(e.packets[h])+c.Packets, e.bytes(h)+c.Bytes
	if packets >= elsewhere || bytes > maxBytes {
		t.addLarge(e, h, c)
		return
	}
	e.set(h, uint32(packets), bytes)
}

// addLarge is add for what doesn't fit: a flow that was counted by the kernel while
// no exporter ran, for hours. Its entry looks as large as an entry may be.
func (t *table) addLarge(e *entry, h Half, c epoch.Count) {
	if t.large == nil {
		t.large = map[observation]epoch.Count{}
	}
	c.Add(t.take(e, h))
	t.large[observation{e, h}] = c
	e.set(h, elsewhere, maxBytes)
}

// count returns what was counted at an entry in a half.
func (t *table) count(e *entry, h Half) epoch.Count {
	if e.packets[h] == elsewhere {
		return t.large[observation{e, h}]
	}
	return epoch.Count{Packets: uint64(e.packets[h]), Bytes: e.bytes(h)}
}

// take empties an entry in a half and returns what was counted there.
func (t *table) take(e *entry, h Half) epoch.Count {
	c := t.count(e, h)
	if e.packets[h] == elsewhere {
		delete(t.large, observation{e, h})
	}
	e.set(h, 0, 0)
	return c
}

func (t *table) free() {
	freeArray(t.lines)
	freeArray(t.entries)
	*t = table{}
}

// set returns the i-th set.
func (t *table) set(i int) []entry { return t.entries[i*tableWays : (i+1)*tableWays : (i+1)*tableWays] }

// find returns the number of the set of a hash: the hash scaled to the number of
// sets (Lemire, "Fast random integer generation in an interval", 2019).
func (t *table) find(hash uint64) int {
	i, _ := bits.Mul64(hash, uint64(len(t.lines)))
	return int(i)
}

// tagOf returns what a hash has besides its set; never 0.
func tagOf(hash uint64) uint32 { return max(1, uint32(hash)) }

// mark notes that a set has traffic in a half.
func (t *table) mark(set int, h Half) { t.marks[h][set>>6] |= 1 << (set & 63) }

// lookup returns the record's entry in a set, nil if there is none; similar says
// whether an entry has its tag, then: the flow's at another point, most likely.
func (t *table) lookup(set int, tag uint32, r *Record) (e *entry, way int, similar bool) {
	ways := t.lines[set].match(tag)
	similar = ways != 0
	for ; ways != 0; ways &= ways - 1 {
		way = bits.TrailingZeros32(ways)
		if e = &t.entries[set*tableWays+way]; e.is(r) {
			return e, way, similar
		}
	}
	return nil, 0, similar
}

// alone says whether no other entry of a set is of the same flow as a way's.
func (t *table) alone(set, way int) bool {
	if !t.shared {
		return true
	}
	line := &t.lines[set]
	ways := line.match(line.tags[way])
	return ways&(ways-1) == 0
}

// clear frees a way.
func (t *table) clear(set, way int) {
	line := &t.lines[set]
	t.entries[set*tableWays+way], line.tags[way], line.weights[way] = entry{}, 0, 0
}

// reweigh brings a set's line up to date after its entries changed.
func (t *table) reweigh(set int) {
	entries := t.set(set)
	for way := range entries {
		t.lines[set].weights[way] = entries[way].weight()
	}
}

// touchAtOnce is how many records are touched together: about as many as a CPU
// has loads under way.
const touchAtOnce = 32

// touch loads the lines and entries that at most touchAtOnce records will need,
// which takes as long for all of them as for one: loads that don't depend on each
// other overlap, and the loops are short so that many are under way. The result
// means nothing; it keeps the compiler from leaving the loads out.
func (t *table) touch(records []Record) (loaded uint64) {
	var entries [touchAtOnce]uint32
	for i := range records {
		loaded += uint64(t.lines[t.find(records[i].Hash)].tags[0])
	}
	for i := range records {
		set := t.find(records[i].Hash)
		line := &t.lines[set]
		way := line.least()
		if ways := line.match(tagOf(records[i].Hash)); ways != 0 {
			way = bits.TrailingZeros32(ways)
		}
		entries[i] = uint32(set*tableWays + way)
	}
	for _, i := range entries[:len(records)] {
		loaded += uint64(t.entries[i].point)
	}
	return loaded
}
