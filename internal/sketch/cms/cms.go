// Package cms is the Count-Min sketch with conservative update: how much was
// counted of one item, never too little, in constant memory.
//
// Cormode and Muthukrishnan, "An improved data stream summary: the count-min
// sketch and its applications", 2005; conservative update is Estan and Varghese's,
// "New directions in traffic measurement and accounting", 2002. An estimate is at
// least the truth, always, and exceeds it by more than e/Width of all that was
// counted with a probability of at most e^-Depth (1.8 %) for each item;
// conservative update only lowers estimates.
//
// Items come in as 64-bit hashes. Their seed must be random, or else items can be
// crafted that collide; an error stays within what was counted in all even then.
// The rows' columns are made of two halves of the hash (Kirsch and Mitzenmacher,
// "Less hashing, same performance", 2006).
//
// Sketches whose items were hashed alike merge by adding cells.
// The sum never underestimates either, since each sketch's cells are at least the
// truth; it may estimate more than one sketch of everything would.
package cms

import (
	"math/bits"
	"slices"
)

// Depth is the number of rows.
const Depth = 4

// CellBytes is the memory that a column takes in all rows.
const CellBytes = Depth * 8

// Sketch isn't safe for concurrent use.
type Sketch struct {
	rows  [Depth][]uint64
	total uint64
	shift uint
}

// New returns an empty sketch; width is rounded up to a power of two, at least 2.
func New(width int) *Sketch {
	log := max(1, bits.Len(uint(max(1, width)-1)))
	s := &Sketch{shift: 32 - uint(log)}
	for i := range s.rows {
		s.rows[i] = make([]uint64, 1<<log)
	}
	return s
}

// Width is the number of columns.
func (s *Sketch) Width() int { return len(s.rows[0]) }

// Total is all that was added.
func (s *Sketch) Total() uint64 { return s.total }

// cells returns the item's cell in each row.
func (s *Sketch) cells(hash uint64) (cells [Depth]*uint64) {
	for i, column := range columns(hash, s.shift) {
		cells[i] = &s.rows[i][column]
	}
	return cells
}

// Add counts n of an item: its smallest cells grow to what they estimate now. Without a
// branch, and with the cells by themselves rather than as pointers, it takes half the
// time.
func (s *Sketch) Add(hash, n uint64) {
	s.total += n
	h, step, shift := uint32(hash), uint32(hash>>32)|1, s.shift
	row0, row1, row2, row3 := s.rows[0], s.rows[1], s.rows[2], s.rows[3]
	i, j := column(h, shift), column(h+step, shift)
	k, l := column(h+2*step, shift), column(h+3*step, shift)
	a, b, c, d := row0[i], row1[j], row2[k], row3[l]
	estimate := min(a, b, c, d) + n
	row0[i], row1[j], row2[k], row3[l] = max(a, estimate), max(b, estimate), max(c, estimate), max(d, estimate)
}

// column is where a row has its cell for a hash.
func column(h uint32, shift uint) uint32 { return (h * 0x9e3779b1) >> (shift & 31) }

// columns is where each row has its cell for an item.
func columns(hash uint64, shift uint) (columns [Depth]uint32) {
	h, step := uint32(hash), uint32(hash>>32)|1
	for i := range columns {
		columns[i] = column(h, shift)
		h += step
	}
	return columns
}

// Estimate returns at least what was added of an item.
func (s *Sketch) Estimate(hash uint64) uint64 {
	cells := s.cells(hash)
	return min(*cells[0], *cells[1], *cells[2], *cells[3])
}

// Merge adds what another sketch counted. Of a wider one, the cells that are one here
// count as the largest of them, which is at least the truth of each of their items;
// a cell of a narrower one is several here.
func (s *Sketch) Merge(other *Sketch) {
	s.total += other.total
	for i := range s.rows {
		row, from := s.rows[i], other.rows[i]
		if other.shift > s.shift {
			for j := range row {
				row[j] += from[j>>(other.shift-s.shift)]
			}
			continue
		}
		n := 1 << (s.shift - other.shift)
		for j := range row {
			row[j] += slices.Max(from[j*n : (j+1)*n])
		}
	}
}

// Reset empties the sketch.
func (s *Sketch) Reset() {
	if s.total == 0 {
		return
	}
	s.total = 0
	for i := range s.rows {
		clear(s.rows[i])
	}
}
