package fold

import (
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// The prefix lengths of the steps, longest first; behind the last one is the
// whole family, which always has room.
var (
	ipv4Steps = []int{32, 24, 16, 8}
	ipv6Steps = []int{128, 64, 48, 32}
)

// Ladders take what gives up its flow: by source and by destination, for each
// class and family a table a prefix length, each of which folds its smallest
// prefix into the next. Bytes are conserved: what both dimensions of Snapshot
// hold is what was added. Not safe for concurrent use.
type Ladders struct {
	ladders [laddersCount]*ladder // made when first used
	entries int                   // a level
}

const (
	ladderClasses = int(epoch.FleetDestination) + 1
	laddersCount  = ladderClasses * 2 * 2 // classes, dimensions, families
)

// ladder is that of one class, dimension and family.
type ladder struct {
	levels []level
	rest   levelEntry // the whole family
	root   netip.Prefix
}

// NewLadders returns empty ladders with room for so many prefixes a level.
func NewLadders(entriesPerLevel int) *Ladders { return &Ladders{entries: entriesPerLevel} }

// Add folds a flow.
func (l *Ladders) Add(class epoch.Class, key *flow.Key, c epoch.Count) {
	if c == (epoch.Count{}) {
		return
	}
	l.at(class, flow.Source, isIPv4(&key.Source)).add(key.Source, c)
	l.at(class, flow.Destination, isIPv4(&key.Destination)).add(key.Destination, c)
}

// AddPrefixes folds what other ladders hold, each prefix from its own length on.
func (l *Ladders) AddPrefixes(others []epoch.Ladder) {
	for i := range others {
		for j := range others[i].Entries {
			e := &others[i].Entries[j]
			l.at(others[i].Class, others[i].Dimension, e.Addr().Is4()).addPrefix(e)
		}
	}
}

// Snapshot returns what was added since the last Reset. The caller owns it.
func (l *Ladders) Snapshot() []epoch.Ladder {
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

// Reset empties the ladders and keeps their memory.
func (l *Ladders) Reset() {
	for _, ladder := range l.ladders {
		if ladder != nil {
			ladder.reset()
		}
	}
}

func (l *Ladders) at(class epoch.Class, dimension flow.Dimension, ipv4 bool) *ladder {
	family := 1
	if ipv4 {
		family = 0
	}
	i := int(class)*4 + int(dimension)*2 + family
	if l.ladders[i] == nil {
		l.ladders[i] = newLadder(ipv4, l.entries)
	}
	return l.ladders[i]
}

func isIPv4(address *[16]byte) bool { return netip.AddrFrom16(*address).Is4In6() }

func newLadder(ipv4 bool, entries int) *ladder {
	steps, offset, root := ipv6Steps, 0, netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if ipv4 {
		steps, offset, root = ipv4Steps, ipv4Bits, netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	l := &ladder{root: root}
	for _, bits := range steps {
		l.levels = append(l.levels, newLevel(offset+bits, entries))
	}
	return l
}

func (l *ladder) add(address [16]byte, c epoch.Count) { l.addFrom(0, address, c) }

// addFrom counts at the levels from the given one on, until one has room.
func (l *ladder) addFrom(first int, address [16]byte, c epoch.Count) {
	for i := first; i < len(l.levels); i++ {
		victim, evicted := l.levels[i].add(address, c)
		if !evicted {
			return
		}
		address, c = victim.prefix, victim.Count
	}
	l.rest.Count.Add(c)
}

// addPrefix counts at the longest level that isn't longer than the prefix.
func (l *ladder) addPrefix(p *epoch.Prefix) {
	if p.Count == (epoch.Count{}) {
		return
	}
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += ipv4Bits
	}
	for i := range l.levels {
		if l.levels[i].bits <= bits {
			l.addFrom(i, p.Addr().As16(), p.Count)
			return
		}
	}
	l.rest.Count.Add(p.Count)
}

func (l *ladder) appendTo(to []epoch.Prefix) []epoch.Prefix {
	for i := range l.levels {
		to = l.levels[i].appendTo(to)
	}
	if l.rest.Count != (epoch.Count{}) {
		to = append(to, epoch.Prefix{Prefix: l.root, Count: l.rest.Count})
	}
	return to
}

func (l *ladder) reset() {
	for i := range l.levels {
		clear(l.levels[i].entries)
	}
	l.rest = levelEntry{}
}
