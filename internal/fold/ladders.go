package fold

import (
	"net/netip"
	"unsafe"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// The prefix lengths of the steps, longest first; behind the last one is the
// whole family, which always has room.
var (
	ipv4Steps = []int{32, 24, 16, 8}
	ipv6Steps = []int{128, 64, 48, 32}
)

// foldBatch is how many flows, for each entry of a level, are folded at a time. A
// prefix has to be among the largest of a batch and what is kept already, not of a
// few neighbours in a hash table; and sorting makes a batch cheaper than its flows
// one by one.
const foldBatch = 8

// Ladders take what gives up its flow: by source and by destination, for each
// class and family a table a prefix length, each of which folds its smallest
// prefixes into the next. Bytes are conserved: what both dimensions of Snapshot
// hold is what was added. Not safe for concurrent use.
type Ladders struct {
	ladders [laddersCount]*ladder // made when first used
	entries int                   // a level
	waiting []folded              // a batch
	work    *workspace
}

// folded is a flow that waits for its batch.
type folded struct {
	addresses [2]prefix // by dimension
	epoch.Count
	ladders [2]uint8 // by dimension
}

const (
	ladderClasses = int(epoch.FleetDestination) + 1
	laddersCount  = ladderClasses * 2 * 2 // classes, dimensions, families
)

// ladder is that of one class, dimension and family.
type ladder struct {
	levels []level
	rest   epoch.Count // of the whole family
	root   netip.Prefix
}

// NewLadders returns empty ladders with room for so many prefixes a level.
func NewLadders(entriesPerLevel int) *Ladders {
	return newLadders(max(1, entriesPerLevel), &workspace{})
}

// newLadders returns ladders that share the workspace with others.
func newLadders(entries int, work *workspace) *Ladders {
	return &Ladders{entries: entries, waiting: make([]folded, 0, foldBatch*entries), work: work}
}

// Memory of ladders by entries of a level: that of one half's batch and, with both
// families and dimensions in use, levels; that of the workspace, for a batch and
// the entries of a level.
const (
	ladderBytes    = foldBatch*int(unsafe.Sizeof(folded{})) + 2*2*4*int(unsafe.Sizeof(prefixCount{}))
	workspaceBytes = foldBatch*2*int(unsafe.Sizeof(numbered{})+8) + (foldBatch+1)*(4*int(unsafe.Sizeof(prefixCount{}))+8+4) + 2*int(unsafe.Sizeof(prefixCount{}))
)

// Add folds a flow.
func (l *Ladders) Add(class epoch.Class, key *flow.Key, c epoch.Count) {
	if c == (epoch.Count{}) {
		return
	}
	l.waiting = l.waiting[:len(l.waiting)+1] // there is room: see below
	f := &l.waiting[len(l.waiting)-1]
	f.addresses[flow.Source], f.addresses[flow.Destination] = prefixOf(&key.Source), prefixOf(&key.Destination)
	f.Packets, f.Bytes = c.Packets, c.Bytes
	for _, d := range flow.Dimensions {
		f.ladders[d] = uint8(ladderIndex(class, d, f.addresses[d].isIPv4()))
	}
	if len(l.waiting) == cap(l.waiting) {
		l.foldWaiting()
	}
}

// AddPrefixes folds what other ladders hold, each prefix from its own length on.
func (l *Ladders) AddPrefixes(others []epoch.Ladder) {
	for i := range others {
		for j := range others[i].Entries {
			e := &others[i].Entries[j]
			l.at(ladderIndex(others[i].Class, others[i].Dimension, e.Addr().Is4())).addPrefix(e)
		}
	}
	l.foldPrefixes()
}

// Snapshot returns what was added since the last Reset. The caller owns it.
func (l *Ladders) Snapshot() []epoch.Ladder {
	l.foldWaiting()
	var all []epoch.Ladder
	for i, ladder := range l.ladders {
		if ladder == nil {
			continue
		}
		entries := ladder.appendTo(nil)
		if len(entries) == 0 {
			continue
		}
		class, dimension := epoch.Class(i/4), flow.Dimension(i/2%2)
		all = append(all, epoch.Ladder{Class: class, Dimension: dimension, Entries: entries})
	}
	return all
}

// Resize changes the room of each level of ladders that are empty.
func (l *Ladders) Resize(entriesPerLevel int) {
	l.entries = max(1, entriesPerLevel)
	for _, ladder := range l.ladders {
		if ladder == nil {
			continue
		}
		for i := range ladder.levels {
			ladder.levels[i].room = l.entries
		}
	}
}

// Reset empties the ladders and keeps their memory.
func (l *Ladders) Reset() {
	l.waiting = l.waiting[:0]
	for _, ladder := range l.ladders {
		if ladder != nil {
			ladder.reset()
		}
	}
}

// ladderIndex is the place of a ladder among all.
func ladderIndex(class epoch.Class, dimension flow.Dimension, ipv4 bool) int {
	i := int(class)*4 + int(dimension)*2
	if !ipv4 {
		i++
	}
	return i
}

func (l *Ladders) at(i int) *ladder {
	if l.ladders[i] == nil {
		l.ladders[i] = newLadder(i%2 == 0, l.entries)
	}
	return l.ladders[i]
}

// foldWaiting folds the batch, whatever its size.
func (l *Ladders) foldWaiting() {
	for _, dimension := range flow.Dimensions {
		// Most often all of them belong to one ladder, and one look is enough.
		var done [laddersCount]bool
		for i := range l.waiting {
			if ladder := l.waiting[i].ladders[dimension]; !done[ladder] {
				done[ladder] = true
				if l.foldInto(ladder, dimension) == len(l.waiting) {
					break
				}
			}
		}
	}
	l.waiting = l.waiting[:0]
}

// foldInto folds those of the batch that belong to a ladder, and returns how many
// these were.
func (l *Ladders) foldInto(ladder uint8, dimension flow.Dimension) int {
	to := l.at(int(ladder))
	if to.ipv4() {
		l.sumIPv4(ladder, dimension)
		to.take(l.work, l.work.batch)
		return len(l.work.words.words)
	}
	l.sumAny(ladder, dimension)
	to.take(l.work, l.work.batch)
	return len(l.work.sorter.items)
}

// sumIPv4 makes the workspace's batch of those that belong to an IPv4 ladder.
func (l *Ladders) sumIPv4(ladder uint8, dimension flow.Dimension) {
	s := &l.work.words
	s.words = s.words[:0]
	for i := range l.waiting {
		if f := &l.waiting[i]; f.ladders[dimension] == ladder {
			s.words = append(s.words, f.addresses[dimension].low<<32|uint64(i))
		}
	}
	s.sort()
	sums := l.work.batch[:0]
	for _, w := range s.words {
		sums = appendSum(sums, prefix{0, 0xffff<<32 | w>>32}, l.waiting[uint32(w)].Count)
	}
	l.work.batch = sums
}

// sumAny does so for any ladder.
func (l *Ladders) sumAny(ladder uint8, dimension flow.Dimension) {
	s := &l.work.sorter
	s.items = s.items[:0]
	for i := range l.waiting {
		if f := &l.waiting[i]; f.ladders[dimension] == ladder {
			s.add(f.addresses[dimension], uint32(i))
		}
	}
	s.sort()
	sums := l.work.batch[:0]
	for i := range s.items {
		sums = appendSum(sums, s.items[i].prefix, l.waiting[s.items[i].number].Count)
	}
	l.work.batch = sums
}

// foldPrefixes folds what came from other ladders.
func (l *Ladders) foldPrefixes() {
	for _, ladder := range l.ladders {
		if ladder != nil {
			ladder.take(l.work, nil)
		}
	}
}

// ipv4 says which family's the ladder is.
func (l *ladder) ipv4() bool { return l.root.Addr().Is4() }

func newLadder(ipv4 bool, entries int) *ladder {
	steps, offset, root := ipv6Steps, 0, netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if ipv4 {
		steps, offset, root = ipv4Steps, ipv4Bits, netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	l := &ladder{root: root}
	for _, bits := range steps {
		l.levels = append(l.levels, level{bits: offset + bits, room: entries})
	}
	return l
}

// take counts ascending addresses, and what is incoming at each level, letting
// what has no room at a level go to the next.
func (l *ladder) take(w *workspace, sums []prefixCount) {
	for i := range l.levels {
		next := 0
		if i+1 < len(l.levels) {
			next = l.levels[i+1].bits
		}
		w.rests[i%2] = l.levels[i].take(w, sums, w.rests[i%2][:0], next)
		sums = w.rests[i%2]
	}
	for i := range sums {
		l.rest.Add(sums[i].Count)
	}
}

// addPrefix lets a prefix wait at the longest level that isn't longer than it.
func (l *ladder) addPrefix(p *epoch.Prefix) {
	if p.Count == (epoch.Count{}) {
		return
	}
	bits, address := p.Bits(), p.Addr().As16()
	if p.Addr().Is4() {
		bits += ipv4Bits
	}
	for i := range l.levels {
		if level := &l.levels[i]; level.bits <= bits {
			level.incoming = append(level.incoming, prefixCount{prefixOf(&address).masked(level.bits), p.Count})
			return
		}
	}
	l.rest.Add(p.Count)
}

func (l *ladder) appendTo(to []epoch.Prefix) []epoch.Prefix {
	for i := range l.levels {
		to = l.levels[i].appendTo(to)
	}
	if l.rest != (epoch.Count{}) {
		to = append(to, epoch.Prefix{Prefix: l.root, Count: l.rest})
	}
	return to
}

func (l *ladder) reset() {
	for i := range l.levels {
		l.levels[i].entries, l.levels[i].floor = l.levels[i].entries[:0], 0
		l.levels[i].incoming = l.levels[i].incoming[:0]
	}
	l.rest = epoch.Count{}
}
