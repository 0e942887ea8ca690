package cms

import (
	"math/bits"
	"slices"
)

// PackedCellBytes is the memory that a column of a Packed takes in all rows.
const PackedCellBytes = Depth * 4

// Packed is a sketch to which nothing is added any more, in half the memory. Its
// estimates are the sketch's unless a cell has 2 GiB or more; then they are rounded up
// by less than a 2^30th of the largest cell.
type Packed struct {
	rows  [Depth][]uint32 // in units of 2^unit
	unit  uint
	shift uint
}

// Pack makes p what s is now, in memory that p has already if it was as wide.
func (p *Packed) Pack(s *Sketch) {
	largest := uint64(0)
	for i := range s.rows {
		largest = max(largest, slices.Max(s.rows[i]))
	}
	p.shift, p.unit = s.shift, uint(max(0, bits.Len64(largest)-31))
	rest := uint64(1)<<p.unit - 1
	for i, from := range s.rows {
		row := slices.Grow(p.rows[i][:0], len(from))[:len(from)]
		for j, cell := range from {
			row[j] = uint32(cell >> p.unit)
			if cell&rest != 0 {
				row[j]++
			}
		}
		p.rows[i] = row
	}
}

// Width is the number of columns.
func (p *Packed) Width() int { return len(p.rows[0]) }

// Estimate returns at least what was added of an item.
func (p *Packed) Estimate(hash uint64) uint64 {
	at := columns(hash, p.shift)
	return uint64(min(p.rows[0][at[0]], p.rows[1][at[1]], p.rows[2][at[2]], p.rows[3][at[3]])) << p.unit
}
