package epoch

import (
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/traffic-monitor-agent/tma/internal/epoch/epochpb"
)

// Part says what a part of an encoded epoch is about.
type Part uint8

// The parts: flows and ladders can be made smaller by folding more.
const (
	PartOther Part = iota
	PartFlows
	PartLadder
	PartSketch
	Parts
)

// partOf is the part that a field of an epoch is.
func partOf(field protowire.Number) Part {
	const flowsField, laddersField, sketchesField = 7, 8, 9
	switch field {
	case flowsField:
		return PartFlows
	case laddersField:
		return PartLadder
	case sketchesField:
		return PartSketch
	}
	return PartOther
}

// SplitParts yields the fields of a message that Encode returned, in order. Each is a
// slice of the message, and all of them together are the message.
func SplitParts(message []byte) iter.Seq2[Part, []byte] {
	return func(yield func(Part, []byte) bool) {
		for len(message) > 0 {
			field, _, n := protowire.ConsumeField(message)
			if n < 0 || !yield(partOf(field), message[:n]) {
				return
			}
			message = message[n:]
		}
	}
}

// DecodeCounts returns an epoch without its sketches, which are most of the work, from
// what stands in an answer: the prefix and what Encode returned. Unlike DecodeBatch it
// doesn't ask whether bytes are conserved.
func DecodeCounts(answer []byte) (*Epoch, error) {
	_, _, tag := protowire.ConsumeTag(answer)
	encoded, n := protowire.ConsumeBytes(answer[max(0, tag):])
	if tag < 0 || n < 0 {
		return nil, invalid("no epoch")
	}
	var counts []byte
	for part, field := range SplitParts(encoded) {
		if part != PartSketch {
			counts = append(counts, field...)
		}
	}
	var message epochpb.Epoch
	if err := proto.Unmarshal(counts, &message); err != nil {
		return nil, invalid("%v", err)
	}
	return decodeEpoch(&message)
}
