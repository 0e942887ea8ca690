package fold

import (
	"math/bits"
	"slices"
)

// numbered is a prefix with the number of what it belongs to.
type numbered struct {
	prefix
	number uint32
}

// sorter sorts prefixes by their bytes, least significant first, in time that is
// linear however they were crafted. It keeps its memory.
type sorter struct{ items, other []numbered }

// add appends an item.
func (s *sorter) add(p prefix, number uint32) {
	n := len(s.items)
	if n == cap(s.items) {
		s.items = append(s.items, numbered{p, number})
		return
	}
	s.items = s.items[:n+1] // see appendSum
	item := &s.items[n]
	item.high, item.low, item.number = p.high, p.low, number
}

// sort orders the items, equal ones as they were.
func (s *sorter) sort() {
	if len(s.items) < 2 {
		return
	}
	s.other = append(s.other[:0], s.items...)
	// Bytes in which all prefixes agree, such as the twelve before an IPv4
	// address, need no pass.
	var differ prefix
	first := s.items[0].prefix
	for i := range s.items {
		differ.high |= s.items[i].high ^ first.high
		differ.low |= s.items[i].low ^ first.low
	}
	for shift := uint(0); shift < 128; shift += 8 {
		if uint8(differ.from(shift)) != 0 {
			s.pass(shift)
		}
	}
}

// pass orders the items by the byte that begins at a bit, counted from the last.
func (s *sorter) pass(shift uint) {
	var next [256]uint32
	for i := range s.items {
		next[uint8(s.items[i].from(shift))]++
	}
	sum := uint32(0)
	for i, n := range next {
		next[i], sum = sum, sum+n
	}
	to := s.other[:len(s.items)]
	for i := range s.items {
		item := &s.items[i]
		digit := uint8(item.from(shift))
		at := &to[next[digit]]
		at.high, at.low, at.number = item.high, item.low, item.number
		next[digit]++
	}
	s.items, s.other = to, s.items
}

// wordSorter sorts words by their upper halves, and keeps its memory: an IPv4 address
// and the number of what it belongs to fit one, a third of a numbered.
type wordSorter struct {
	words, other []uint64
	next         [1 << wordDigit]uint32
}

// wordDigit is by how many bits words are sorted at a time, at most: an address takes
// three passes, whose counts stay in the first level cache.
const wordDigit = 11

// fewWords are sorted by comparisons: there, counts take longer to sum up.
const fewWords = 512

// sort orders the words.
func (s *wordSorter) sort() {
	if len(s.words) < fewWords {
		slices.Sort(s.words)
		return
	}
	if cap(s.other) < len(s.words) {
		s.other = make([]uint64, cap(s.words))
	}
	var differ uint64
	for _, w := range s.words {
		differ |= w ^ s.words[0]
	}
	differ >>= 32
	first, behind := bits.TrailingZeros64(differ), bits.Len64(differ)
	for passes := (behind - first + wordDigit - 1) / wordDigit; passes > 0; passes-- {
		digit := (behind - first + passes - 1) / passes
		s.pass(32+first, digit)
		first += digit
	}
}

// pass orders the words by so many bits from one on, counted from the last.
func (s *wordSorter) pass(first, digit int) {
	counts := s.next[:1<<digit]
	clear(counts)
	shift, mask := uint(first)&63, uint64(1)<<digit-1
	for _, w := range s.words {
		counts[w>>shift&mask]++
	}
	sum := uint32(0)
	for i, n := range counts {
		counts[i], sum = sum, sum+n
	}
	to := s.other[:len(s.words)]
	for _, w := range s.words {
		at := &counts[w>>shift&mask]
		to[*at] = w
		*at++
	}
	s.words, s.other = to, s.words
}
