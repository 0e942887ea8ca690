package epoch

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/traffic-monitor-agent/tma/internal/epoch/epochpb"
)

// checkMessages counts the messages within a batch, at any depth, before memory is
// taken for them. What isn't well-formed is left to proto.Unmarshal to refuse.
func checkMessages(data []byte) error {
	left := maxMessages
	countMessages(data, (&epochpb.Batch{}).ProtoReflect().Descriptor(), &left)
	if left < 0 {
		return invalid("more than %d messages within", maxMessages)
	}
	return nil
}

// countMessages takes one from left for each message, and returns early if none is
// left. The depth is that of the format, which doesn't nest in itself.
func countMessages(data []byte, descriptor protoreflect.MessageDescriptor, left *int) {
	fields := descriptor.Fields()
	for len(data) > 0 && *left >= 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return
		}
		data = data[n:]
		n = protowire.ConsumeFieldValue(number, kind, data)
		if n < 0 {
			return
		}
		field := fields.ByNumber(number)
		if kind == protowire.BytesType && field != nil && field.Message() != nil {
			*left--
			value, _ := protowire.ConsumeBytes(data)
			countMessages(value, field.Message(), left)
		}
		data = data[n:]
	}
}
