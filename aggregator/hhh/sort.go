package hhh

import "math/bits"

// record is a mass on its way into a level: the prefix's bits and its count.
type record struct{ hi, lo, bytes, packets uint64 }

// less orders by the prefix's bits.
func less(a, b *record) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// common returns how many bits from the top two prefixes share.
func common(a, b *record) int {
	if x := a.hi ^ b.hi; x != 0 {
		return bits.LeadingZeros64(x)
	}
	return 64 + bits.LeadingZeros64(a.lo^b.lo)
}

const (
	// insertionMaximum is up to how many records insertion is the fastest.
	insertionMaximum = 24
	// A digit has at most so many bits: the write positions of all its values are
	// about as many as a CPU has places for addresses of pages.
	digitBits = 12
)

// digit is where in a prefix some neighbouring bits are.
type digit struct {
	inLo  bool
	shift int
	mask  uint64
}

// nextDigit is the digit behind the bits that all of n records share, wide enough
// for about one record a value.
func nextDigit(shared, n int) digit {
	width := min(bits.Len(uint(n)), digitBits)
	if n > 1<<16 {
		width = 8
	}
	d := digit{inLo: shared >= 64, mask: 1<<width - 1}
	d.shift = max(64-shared&63-width, 0)
	return d
}

func (d digit) of(r *record) uint64 {
	if d.inLo {
		return r.lo >> d.shift & d.mask
	}
	return r.hi >> d.shift & d.mask
}

// sortRecords sorts by the prefixes' bits. spare is as long as records, and is
// overwritten.
//
// This is a radix sort from the top bits down, which skips what all records share:
// a million records go through main memory once, and then in parts that fit the
// caches. Whole records move, so that whoever reads them afterwards reads on and on.
func sortRecords(records, spare []record) { sortInto(records, records, spare) }

// sortInto sorts from, which is one of to and other, into to; other has the same
// length and is overwritten.
func sortInto(to, from, other []record) {
	shared := 128
	if len(from) > insertionMaximum {
		shared = sharedBits(from)
	}
	if shared == 128 {
		insertionSort(from) // few, or all alike
		if &to[0] != &from[0] {
			copy(to, from)
		}
		return
	}
	away := other
	if &from[0] == &other[0] {
		away = to
	}
	d := nextDigit(shared, len(from))
	var ends [1 << digitBits]uint32
	scatter(from, away, d, ends[:d.mask+1])
	begin := uint32(0)
	for _, end := range ends[:d.mask+1] {
		if begin < end {
			sortInto(to[begin:end], away[begin:end], other[begin:end])
		}
		begin = end
	}
}

// sharedBits returns how many bits from the top all records share.
func sharedBits(records []record) int {
	var differ record
	first := records[0]
	for i := range records {
		differ.hi |= records[i].hi ^ first.hi
		differ.lo |= records[i].lo ^ first.lo
	}
	return common(&differ, &record{})
}

// scatter moves records to where their digits belong and notes where those of each
// digit end.
func scatter(from, to []record, d digit, ends []uint32) {
	for i := range from {
		ends[d.of(&from[i])]++
	}
	sum := uint32(0)
	for value, n := range ends {
		ends[value] = sum
		sum += n
	}
	for i := range from {
		next := &ends[d.of(&from[i])]
		to[*next] = from[i]
		*next++
	}
}

func insertionSort(records []record) {
	for i := 1; i < len(records); i++ {
		if !less(&records[i], &records[i-1]) {
			continue
		}
		r, j := records[i], i
		for ; j > 0 && less(&r, &records[j-1]); j-- {
			records[j] = records[j-1]
		}
		records[j] = r
	}
}
