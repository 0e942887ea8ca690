package epoch

import (
	"net/netip"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/traffic-monitor-agent/tma/internal/epoch/epochpb"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// Version is that of the wire format; Decode refuses others.
const Version = 1

// Encode returns the epoch as a protobuf message. It sorts e.Flows.
func Encode(e *Epoch) ([]byte, error) {
	message := &epochpb.Epoch{
		Version:       Version,
		Host:          e.Host,
		Sequence:      e.Sequence,
		StartUnixNano: e.Start.UnixNano(),
		EndUnixNano:   e.End.UnixNano(),
		Flows:         encodeFlows(e.Flows),
		Doubtful:      encodeCount(e.Doubtful),
		Hidden:        encodeCount(e.Hidden),
	}
	for i := range e.Devices {
		message.Devices = append(message.Devices, encodeDevice(&e.Devices[i]))
	}
	for i := range e.Ladders {
		message.Ladders = appendLadder(message.Ladders, &e.Ladders[i])
	}
	for i := range e.Sketches {
		message.Sketches = append(message.Sketches, encodeSketch(&e.Sketches[i]))
	}
	for _, network := range e.LocalNetworks {
		message.LocalNetworks = append(message.LocalNetworks, encodeNetwork(network))
	}
	return proto.Marshal(message)
}

// EncodeBatch joins epochs that Encode returned to an answer, without decoding
// them. Oldest and newest are the sequences that the exporter still holds.
func EncodeBatch(boot [16]byte, oldest, newest uint64, encoded [][]byte) []byte {
	const bootField, oldestField, newestField, epochsField = 1, 2, 3, 4
	size := 64
	for _, e := range encoded {
		size += len(e) + 8
	}
	b := make([]byte, 0, size)
	b = protowire.AppendTag(b, bootField, protowire.BytesType)
	b = protowire.AppendBytes(b, boot[:])
	b = protowire.AppendTag(b, oldestField, protowire.VarintType)
	b = protowire.AppendVarint(b, oldest)
	b = protowire.AppendTag(b, newestField, protowire.VarintType)
	b = protowire.AppendVarint(b, newest)
	for _, e := range encoded {
		b = protowire.AppendTag(b, epochsField, protowire.BytesType)
		b = protowire.AppendBytes(b, e)
	}
	return b
}

// encodeCount returns no message for a count of nothing.
func encodeCount(c Count) *epochpb.Count {
	if c == (Count{}) {
		return nil
	}
	return &epochpb.Count{Packets: c.Packets, Bytes: c.Bytes}
}

func encodeDevice(d *Device) *epochpb.Device {
	message := &epochpb.Device{
		Name:      d.Name,
		Direction: epochpb.Direction(d.Direction),
		Total:     encodeCount(d.Total),
		Duplicate: encodeCount(d.Duplicate),
		Remainder: encodeCount(d.Remainder),
	}
	for _, other := range d.Others {
		if other.Count != (Count{}) {
			message.Others = append(message.Others, &epochpb.Reason{Reason: other.Reason, Count: encodeCount(other.Count)})
		}
	}
	return message
}

// isIPv4 says whether an address is IPv4-mapped.
func isIPv4(address *[16]byte) bool {
	return netip.AddrFrom16(*address).Is4In6()
}

// familyIPv4 says whether a flow goes among the IPv4 columns.
func (f *Flow) familyIPv4() bool { return isIPv4(&f.Source) && isIPv4(&f.Destination) }

// compareFlows orders as the wire format wants: IPv4 first, then by bytes
// descending.
func compareFlows(a, b Flow) int {
	if a4, b4 := a.familyIPv4(), b.familyIPv4(); a4 != b4 {
		if a4 {
			return -1
		}
		return 1
	}
	switch {
	case a.Bytes > b.Bytes:
		return -1
	case a.Bytes < b.Bytes:
		return 1
	}
	return 0
}

func encodeFlows(flows []Flow) *epochpb.Flows {
	slices.SortFunc(flows, compareFlows)
	n := len(flows)
	columns := &epochpb.Flows{
		SourcePorts:      make([]uint32, n),
		DestinationPorts: make([]uint32, n),
		Protocols:        make([]byte, n),
		Directions:       make([]byte, n),
		Packets:          make([]uint64, n),
		Bytes:            make([]uint64, n),
	}
	for i := range flows {
		f := &flows[i]
		from := 0
		if f.familyIPv4() {
			from = 12
			columns.Ipv4++
		}
		columns.Sources = append(columns.Sources, f.Source[from:]...)
		columns.Destinations = append(columns.Destinations, f.Destination[from:]...)
		columns.SourcePorts[i] = uint32(f.SourcePort)
		columns.DestinationPorts[i] = uint32(f.DestinationPort)
		columns.Protocols[i] = f.Protocol
		columns.Directions[i] = uint8(f.Direction)
		columns.Packets[i] = f.Packets
		columns.Bytes[i] = f.Bytes
	}
	columns.Errors = encodeColumn(flows, func(f *Flow) uint64 { return f.Error })
	columns.Doubtful = encodeColumn(flows, func(f *Flow) uint64 { return f.Doubtful })
	return columns
}

// encodeColumn returns a column of the flows, nil if all of it is 0.
func encodeColumn(flows []Flow, of func(*Flow) uint64) []uint64 {
	var column []uint64
	for i := range flows {
		if n := of(&flows[i]); n != 0 {
			if column == nil {
				column = make([]uint64, len(flows))
			}
			column[i] = n
		}
	}
	return column
}

// appendLadder adds the ladder as one message for each family that it has.
func appendLadder(to []*epochpb.Ladder, ladder *Ladder) []*epochpb.Ladder {
	for _, ipv6 := range []bool{false, true} {
		levels := encodeLevels(ladder.Entries, ipv6)
		if len(levels) == 0 {
			continue
		}
		to = append(to, &epochpb.Ladder{
			Dimension: epochpb.Dimension(ladder.Dimension),
			Class:     epochpb.Class(ladder.Class),
			Ipv6:      ipv6,
			Levels:    levels,
		})
	}
	return to
}

// encodeLevels returns the entries of one family by prefix length, longest first.
func encodeLevels(entries []Prefix, ipv6 bool) []*epochpb.Level {
	byLength := map[int]*epochpb.Level{}
	for i := range entries {
		e := &entries[i]
		if e.Addr().Is6() != ipv6 {
			continue
		}
		level := byLength[e.Bits()]
		if level == nil {
			level = &epochpb.Level{PrefixLength: uint32(e.Bits())}
			byLength[e.Bits()] = level
		}
		address := e.Addr().AsSlice()
		level.Prefixes = append(level.Prefixes, address[:(e.Bits()+7)/8]...)
		level.Packets = append(level.Packets, e.Packets)
		level.Bytes = append(level.Bytes, e.Bytes)
	}
	levels := make([]*epochpb.Level, 0, len(byLength))
	for bits := 128; bits >= 0; bits-- {
		if level := byLength[bits]; level != nil {
			levels = append(levels, level)
		}
	}
	return levels
}

func encodeSketch(s *Sketch) *epochpb.Sketch {
	message := &epochpb.Sketch{Of: s.Of, Precision: hll.Precision, KeyFingerprint: s.KeyFingerprint}
	previous := 0
	for i, value := range s.HLL.Bytes() {
		if value == 0 {
			continue
		}
		message.IndexDeltas = append(message.IndexDeltas, uint32(i-previous))
		message.Values = append(message.Values, value)
		previous = i
	}
	return message
}

func encodeNetwork(network netip.Prefix) []byte {
	return append(network.Addr().AsSlice(), uint8(network.Bits()))
}

// directions is the number of flow.Direction values.
const directions = uint8(flow.Egress) + 1
