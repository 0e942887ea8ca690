package hhh

import (
	"cmp"
	"slices"
)

// record is a mass on its way into a level: the prefix's bits and its count.
type record struct{ hi, lo, bytes, packets uint64 }

// less orders by the prefix's bits.
func less(a, b *record) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// sortRecords sorts in place, by comparing.
func sortRecords(records []record) {
	slices.SortFunc(records, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
	})
}

const (
	// Below this many records comparing is as fast as three counting passes.
	radixMinimum = 512
	// 2^11 counters of 4 bytes stay in the L1 cache, and three digits are
	// enough for 32 bits.
	digitBits = 11
	digits    = 1 << digitBits
)

// radixOrder returns the records' indices, in the lower half of each word, in
// the order of the upper 32 bits of hi, which are all that a prefix of IPv4 has.
// The records stay where they are: moving 8-byte words three times costs a
// third of moving whole records.
func radixOrder(records []record) []uint64 {
	words, spare := make([]uint64, len(records)), make([]uint64, len(records))
	for i := range records {
		words[i] = records[i].hi&^0xffff_ffff | uint64(i)
	}
	for shift := 32; shift < 64; shift += digitBits {
		if scatter(words, spare, shift) {
			words, spare = spare, words
		}
	}
	return words
}

// scatter is one stable counting pass over the digit at shift. It returns false
// and moves nothing if all words have the same digit.
func scatter(from, to []uint64, shift int) bool {
	var next [digits]uint32
	for _, word := range from {
		next[word>>shift&(digits-1)]++
	}
	if next[from[0]>>shift&(digits-1)] == uint32(len(from)) {
		return false
	}
	var sum uint32
	for digit, count := range next {
		next[digit] = sum
		sum += count
	}
	for _, word := range from {
		digit := word >> shift & (digits - 1)
		to[next[digit]] = word
		next[digit]++
	}
	return true
}
