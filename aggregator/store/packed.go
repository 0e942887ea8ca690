package store

import (
	"encoding/binary"
	"iter"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// packed is the lists of a content that keeps. Packed, an ordinary flow takes 20
// bytes instead of 88, a prefix 8 instead of 40, and a HyperLogLog of a thousand
// things 1 KiB instead of 16.
type packed struct {
	flows    packedFlows
	masses   [len(flow.Dimensions)]hhh.Packed
	distinct map[string][]byte // zstd of the registers
}

// size is the bytes of memory that it takes.
func (p *packed) size() int {
	n := len(p.flows.encoded)
	for d := range p.masses {
		n += p.masses[d].Size()
	}
	return n + p.distinctSize()
}

func (p *packed) distinctSize() (n int) {
	for of, registers := range p.distinct {
		n += len(of) + len(registers)
	}
	return n
}

// packedFlows is flows by key, each key behind the one before (see keyCoder), and
// their numbers as base-128 varints.
type packedFlows struct {
	encoded []byte
	n       int
}

// packFlows packs flows as combineFlows returns them.
func packFlows(flows []counted) packedFlows {
	b := make([]byte, 0, 24*len(flows))
	var keys keyCoder
	for i := range flows {
		f := &flows[i]
		b = keys.append(b, &f.Key)
		b = append(b, byte(f.directions))
		b = binary.AppendUvarint(b, uint64(f.exporter+1)) // several are 0
		b = binary.AppendUvarint(b, f.Packets)
		b = binary.AppendUvarint(b, f.Bytes)
		b = binary.AppendUvarint(b, f.doubtful)
		b = binary.AppendUvarint(b, f.spared)
	}
	return packedFlows{slices.Clip(slices.Clone(b)), len(flows)}
}

// all yields the flows. Each is valid until the next one.
func (p packedFlows) all() iter.Seq[*counted] {
	return func(yield func(*counted) bool) {
		var keys keyCoder
		var f counted
		for b := p.encoded; len(b) > 0; {
			b = keys.next(b, &f.Key)
			f.directions, b = directions(b[0]), b[1:]
			f.exporter = uint32(uvarint(&b)) - 1
			f.Packets, f.Bytes = uvarint(&b), uvarint(&b)
			f.doubtful, f.spared = uvarint(&b), uvarint(&b)
			if !yield(&f) {
				return
			}
		}
	}
}

// list returns the flows as a list.
func (p packedFlows) list() []counted {
	flows := make([]counted, 0, p.n)
	for f := range p.all() {
		flows = append(flows, *f)
	}
	return flows
}

// The coders for registers, which are bytes from a narrow range. Both may be used
// concurrently.
var (
	compressor, _   = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	decompressor, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(hll.Registers))
)

// pack returns the sketches, compressed: all four of an exporter are at most 24 KiB.
// What a hostile one adds to them is left out where it doesn't fit.
func (d distinct) pack(bound int) map[string][]byte {
	packed := make(map[string][]byte, len(d))
	for _, of := range slices.Sorted(maps.Keys(d)) {
		compressed := compressor.EncodeAll(d[of].Bytes(), nil)
		if bound -= len(of) + len(compressed); bound < 0 {
			break
		}
		packed[of] = slices.Clip(slices.Clone(compressed))
	}
	return packed
}

// unpack merges sketches that were packed.
func (d distinct) unpack(packed map[string][]byte) {
	var registers []byte
	for of, compressed := range packed {
		var err error
		if registers, err = decompressor.DecodeAll(compressed, registers[:0]); err != nil {
			panic(err) // they are our own
		}
		s := &hll.Sketch{}
		if err := s.MergeBytes(registers); err != nil {
			panic(err)
		}
		d.add(of, s)
	}
}
