package epoch

import (
	"slices"

	"github.com/traffic-monitor-agent/tma/internal/epoch/epochpb"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// escape is the nibble of a register whose value is elsewhere: 15 or more above
// the base.
const escape = 15

// sparseRegisters is how many registers by index take as much as all of them in
// nibbles, both compressed.
const sparseRegisters = hll.Registers / 4

func encodeSketch(s *Sketch) *epochpb.Sketch {
	message := &epochpb.Sketch{Of: s.Of, Precision: hll.Precision, KeyFingerprint: s.KeyFingerprint}
	registers := s.HLL.Bytes()
	empty := 0
	for _, value := range registers {
		if value == 0 {
			empty++
		}
	}
	if hll.Registers-empty > sparseRegisters {
		encodeNibbles(message, registers)
	} else {
		encodeIndices(message, registers, hll.Registers-empty)
	}
	return message
}

// encodeIndices takes how many registers aren't empty.
func encodeIndices(to *epochpb.Sketch, registers []byte, n int) {
	to.IndexDeltas, to.Values = make([]uint32, 0, n), make([]byte, 0, n)
	previous := 0
	for i, value := range registers {
		if value == 0 {
			continue
		}
		to.IndexDeltas = append(to.IndexDeltas, uint32(i-previous))
		to.Values = append(to.Values, value)
		previous = i
	}
}

func encodeNibbles(to *epochpb.Sketch, registers []byte) {
	base := slices.Min(registers)
	to.Base = uint32(base)
	to.Nibbles = make([]byte, hll.Registers/2)
	for i, value := range registers {
		nibble := value - base
		if nibble >= escape {
			nibble = escape
			to.High = append(to.High, value)
		}
		to.Nibbles[i/2] |= nibble << (i % 2 * 4)
	}
}

// decodeRegisters writes registers that are all 0.
func decodeRegisters(m *epochpb.Sketch, registers []byte) error {
	if len(m.Nibbles) != 0 {
		return decodeNibbles(m, registers)
	}
	if len(m.IndexDeltas) != len(m.Values) {
		return invalid("sketch columns of %s of different lengths", m.Of)
	}
	index := uint64(0)
	for i, delta := range m.IndexDeltas {
		index += uint64(delta)
		if index >= hll.Registers || (i > 0 && delta == 0) {
			return invalid("register %d of the sketch of %s", index, m.Of)
		}
		registers[index] = m.Values[i]
	}
	return nil
}

func decodeNibbles(m *epochpb.Sketch, registers []byte) error {
	if len(m.Nibbles) != hll.Registers/2 || len(m.IndexDeltas) != 0 || m.Base > 0xff-escape {
		return invalid("%d registers of the sketch of %s from %d on", 2*len(m.Nibbles), m.Of, m.Base)
	}
	high, base := m.High, uint8(m.Base)
	for i, nibbles := range m.Nibbles {
		for j, nibble := range [2]uint8{nibbles & 0xf, nibbles >> 4} {
			switch {
			case nibble < escape:
				registers[2*i+j] = base + nibble
			case len(high) == 0:
				return invalid("high registers of the sketch of %s are missing", m.Of)
			default:
				registers[2*i+j], high = high[0], high[1:]
			}
		}
	}
	if len(high) != 0 {
		return invalid("%d high registers of the sketch of %s too many", len(high), m.Of)
	}
	return nil
}
