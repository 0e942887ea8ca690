package epoch

import (
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
)

// Part says what a part of an encoded epoch is about.
type Part uint8

// The parts: flows and ladders can be made smaller by folding more.
const (
	PartOther Part = iota
	PartFlows
	PartLadder
	Parts
)

// partOf is the part that a field of an epoch is.
func partOf(field protowire.Number) Part {
	const flowsField, laddersField = 7, 8
	switch field {
	case flowsField:
		return PartFlows
	case laddersField:
		return PartLadder
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
