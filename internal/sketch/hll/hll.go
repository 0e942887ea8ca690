// Package hll is HyperLogLog: how many distinct items were seen, in constant
// memory.
//
// Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog: the analysis of a
// near-optimal cardinality estimation algorithm", 2007; the estimator is
// Ertl's, "New cardinality estimation algorithms for HyperLogLog sketches",
// 2017, algorithm 6, which needs no bias table and no switch to linear
// counting. The standard error is 1.04/sqrt(2^Precision) = 0.81 %.
//
// Items come in as 64-bit hashes of a keyed hash. Two sketches whose items were
// hashed alike merge by the greater of each pair of registers, and the result is
// the sketch of the union: an item seen by both counts once.
package hll

import (
	"errors"
	"math"
	"math/bits"
)

// Precision is the base-2 logarithm of the number of registers.
const Precision = 14

// Registers is the number of one-byte registers in a Sketch.
const Registers = 1 << Precision

// RelativeError is the standard error of an estimate, as a fraction of it.
var RelativeError = 1.04 / math.Sqrt(Registers)

// maxRank is the greatest value of a register: all hash bits behind the index
// are zero.
const maxRank = 64 - Precision + 1

// Sketch counts distinct items. The zero value is empty and ready. It isn't
// safe for concurrent use.
type Sketch struct{ registers [Registers]uint8 }

// Insert takes one item by its hash: the top Precision bits choose a register,
// the position of the first one bit among the rest is its candidate value.
func (s *Sketch) Insert(hash uint64) {
	index := hash >> (64 - Precision)
	rank := bits.LeadingZeros64(hash<<Precision|1<<(Precision-1)) + 1
	// The greater of both without a branch: which it is can't be predicted, and a
	// branch would end the overlap of several items' hashes.
	register := int(s.registers[index])
	more := rank - register
	s.registers[index] = uint8(register + more&^(more>>63))
}

// Merge makes s the sketch of the union of both.
func (s *Sketch) Merge(other *Sketch) {
	for i, r := range other.registers {
		s.registers[i] = max(s.registers[i], r)
	}
}

// Reset empties the sketch.
func (s *Sketch) Reset() { clear(s.registers[:]) }

// Bytes returns the registers, one byte each. The slice is the sketch's own.
func (s *Sketch) Bytes() []byte { return s.registers[:] }

// ErrRegisters says that bytes aren't the registers of a sketch of this precision.
var ErrRegisters = errors.New("not the registers of a HyperLogLog of precision 14")

// MergeBytes merges registers as Bytes returned them on another host. On an
// error s is unchanged.
func (s *Sketch) MergeBytes(registers []byte) error {
	if len(registers) != Registers {
		return ErrRegisters
	}
	for _, r := range registers {
		if r > maxRank {
			return ErrRegisters
		}
	}
	for i, r := range registers {
		s.registers[i] = max(s.registers[i], r)
	}
	return nil
}

// Estimate returns the estimated number of distinct items.
func (s *Sketch) Estimate() float64 {
	var counts [maxRank + 1]int
	for _, r := range s.registers {
		counts[r]++
	}
	const m = float64(Registers)
	z := m * tau(1-float64(counts[maxRank])/m)
	for k := maxRank - 1; k >= 1; k-- {
		z = 0.5 * (z + float64(counts[k]))
	}
	z += m * sigma(float64(counts[0])/m)
	return m * m / (2 * math.Ln2 * z)
}

// sigma corrects for registers that are still zero (Ertl, equation 13).
func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	z, y := x, 1.0
	for previous := math.NaN(); z != previous; {
		previous = z
		x *= x
		z += x * y
		y += y
	}
	return z
}

// tau corrects for registers that are at their greatest value (Ertl, equation 17).
func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	z, y := 1-x, 1.0
	for previous := math.NaN(); z != previous; {
		previous = z
		x = math.Sqrt(x)
		y *= 0.5
		z -= (1 - x) * (1 - x) * y
	}
	return z / 3
}
