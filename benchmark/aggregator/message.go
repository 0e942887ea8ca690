package main

import (
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// message is an epoch that is encoded and compressed but for its number and time,
// which stand in a frame in front of it: however often it is sent, that costs next to
// nothing.
type message struct {
	size   int    // decompressed
	frames []byte // compressed
	bytes  uint64 // that its host has to count
}

// The fields of an epoch that are left out.
const sequenceField, startField, endField = 3, 4, 5

// minFrame is that of package window: larger parts are compressed on their own.
const minFrame = 512

func newMessage(e *epoch.Epoch) (message, error) {
	m := message{bytes: counted(e)}
	encoded, err := epoch.Encode(e)
	if err != nil {
		return m, err
	}
	m.size = len(encoded)
	var small []byte
	for _, field := range epoch.SplitParts(encoded) {
		if len(field) < minFrame {
			small = append(small, field...)
			continue
		}
		m.frames = compressor.EncodeAll(field, m.frames)
	}
	m.frames = compressor.EncodeAll(small, m.frames)
	return m, nil
}

// compressor is as the exporter's. Its EncodeAll may be called concurrently.
var compressor = newCompressor()

func newCompressor() *zstd.Encoder {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return encoder
}

// append adds the epoch of a number to an answer, compressed. start and end are in ns
// since 1970.
func (m *message) append(answer []byte, sequence uint64, start, end int64) []byte {
	var fields []byte
	for _, field := range []struct {
		number protowire.Number
		value  uint64
	}{{sequenceField, sequence}, {startField, uint64(start)}, {endField, uint64(end)}} {
		fields = protowire.AppendTag(fields, field.number, protowire.VarintType)
		fields = protowire.AppendVarint(fields, field.value)
	}
	head := append(epoch.AppendBatchPrefix(nil, len(fields)+m.size), fields...)
	return append(compressor.EncodeAll(head, answer), m.frames...)
}
