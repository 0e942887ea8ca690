package fold

import (
	"hash/maphash"
	"net/netip"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// levelWays is the number of places that a prefix may take in its level.
const levelWays = 8

// level is a bounded table of the prefixes of one length: set-associative, so
// that a new prefix always has room, at the price of the smallest of its set.
type level struct {
	bits    int // of the prefix in a 16-byte address, IPv4 from 96 on
	seed    maphash.Seed
	entries []levelEntry // sets of levelWays
}

// levelEntry is free if its count is zero.
type levelEntry struct {
	prefix [16]byte
	epoch.Count
}

func (e *levelEntry) free() bool { return e.Count == epoch.Count{} }

func newLevel(bits, entries int) level {
	sets := max(1, entries/levelWays)
	return level{bits: bits, seed: maphash.MakeSeed(), entries: make([]levelEntry, sets*levelWays)}
}

// add counts under the prefix of the address. If another prefix had to make room
// it returns that one, to be counted at the next level.
func (l *level) add(address [16]byte, c epoch.Count) (victim levelEntry, evicted bool) {
	prefix := masked(address, l.bits)
	set := l.set(&prefix)
	least := &set[0]
	for i := range set {
		e := &set[i]
		if e.prefix == prefix && !e.free() {
			e.Count.Add(c)
			return levelEntry{}, false
		}
		if !least.free() && (e.free() || e.Bytes < least.Bytes) {
			least = e
		}
	}
	victim, evicted = *least, !least.free()
	*least = levelEntry{prefix: prefix, Count: c}
	return victim, evicted
}

func (l *level) set(prefix *[16]byte) []levelEntry {
	sets := uint64(len(l.entries) / levelWays)
	i := maphash.Bytes(l.seed, prefix[:]) % sets * levelWays
	return l.entries[i : i+levelWays]
}

// appendTo adds the level's prefixes to a ladder's entries.
func (l *level) appendTo(to []epoch.Prefix) []epoch.Prefix {
	for i := range l.entries {
		if e := &l.entries[i]; !e.free() {
			to = append(to, epoch.Prefix{Prefix: prefixOf(e.prefix, l.bits), Count: e.Count})
		}
	}
	return to
}

// masked returns the address with all bits behind the first n cleared.
func masked(address [16]byte, n int) [16]byte {
	for i := range address {
		switch kept := n - i*8; {
		case kept <= 0:
			address[i] = 0
		case kept < 8:
			address[i] &= 0xff << (8 - kept)
		}
	}
	return address
}

// ipv4Bits is how many bits precede an IPv4 address that is mapped to IPv6.
const ipv4Bits = 96

// prefixOf returns the first n bits of a 16-byte address as a prefix of its own
// family.
func prefixOf(address [16]byte, n int) netip.Prefix {
	a := netip.AddrFrom16(address)
	if a.Is4In6() && n >= ipv4Bits {
		return netip.PrefixFrom(a.Unmap(), n-ipv4Bits)
	}
	return netip.PrefixFrom(a, n)
}
