package window

import (
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// A Message is an encoded epoch as History keeps it and as it goes out: behind its
// prefix in an answer, compressed (zstd, RFC 8878). It consists of whole frames, so
// that an answer is put together without compressing anything again: however many
// aggregators ask, an epoch is compressed once.
type Message []byte

// minFrame is from how many bytes on a part gets a frame of its own. Parts are alike
// in themselves and unlike each other: flows, prefixes and the registers of sketches
// each need their own code, which is a tenth of all.
const minFrame = 512

// sizes are the bytes that the parts of an epoch take in a Message.
type sizes [epoch.Parts]int

func (s *sizes) total() (sum int) {
	for _, n := range s {
		sum += n
	}
	return sum
}

// newCompressor has EncodeAll alone used, which is safe for concurrent use. Codes are
// asked for even where nothing repeats: registers never do.
func newCompressor() *zstd.Encoder {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return encoder
}

// compress makes the Message of what epoch.Encode returned. It is kept for minutes, so
// it takes no more memory than it has to: its capacity, which is what the heap gave.
func compress(encoder *zstd.Encoder, encoded []byte) (m Message, s sizes) {
	small := epoch.AppendBatchPrefix(nil, len(encoded))
	flush := func() {
		m = encoder.EncodeAll(small, m)
		small = small[:0]
	}
	for part, field := range epoch.SplitParts(encoded) {
		if len(field) < minFrame {
			small = append(small, field...)
			continue
		}
		flush()
		before := len(m)
		m = encoder.EncodeAll(field, m)
		s[part] += len(m) - before
	}
	flush()
	s[epoch.PartOther] += len(m) - s.total()
	return slices.Clone(m), s
}

// decompressor has DecodeAll alone used, which is safe for concurrent use. No message
// is larger than the room of all ladders, flows and sketches.
var decompressor = sync.OnceValue(func() *zstd.Decoder {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		panic(err) // the options are constants
	}
	return decoder
})

// Decompress appends the epoch behind its prefix.
func (m Message) Decompress(to []byte) ([]byte, error) { return decompressor().DecodeAll(m, to) }
