package epoch

import (
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/traffic-monitor-agent/tma/internal/epoch/epochpb"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// Version is that of the wire format; Decode refuses others.
const Version = 2

// Encode returns the epoch as a protobuf message. It sorts e.Flows.
func Encode(e *Epoch) ([]byte, error) {
	slices.SortFunc(e.Flows, compareFlows)
	message := &epochpb.Epoch{
		Version:       Version,
		Host:          e.Host,
		Sequence:      e.Sequence,
		StartUnixNano: e.startOnClockOfEnd().UnixNano(),
		EndUnixNano:   e.End.UnixNano(),
		Flows:         encodeFlows(e.Flows),
		Doubtful:      encodeCount(e.Doubtful),
		Hidden:        encodeCount(e.Hidden),
	}
	if e.Exporters != (Exporters{}) {
		message.Exporters = &epochpb.Exporters{Known: e.Exporters.Known, Up: e.Exporters.Up}
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
	if e.SampledPairs != nil && len(e.Sketches) > 0 {
		message.Pairs = encodePairs(e.SampledPairs, e.Flows)
	}
	for _, network := range e.LocalNetworks {
		message.LocalNetworks = append(message.LocalNetworks, encodeNetwork(network))
	}
	return proto.Marshal(message)
}

// The fields of a Batch.
const bootField, oldestField, newestField, epochsField, receivedField, sentField = 1, 2, 3, 4, 5, 6

// EncodeBatch joins epochs that Encode returned to an answer, without decoding
// them. Oldest and newest are the sequences that the exporter still holds.
func EncodeBatch(boot [16]byte, oldest, newest uint64, encoded [][]byte) []byte {
	b := EncodeBatchHeader(boot, oldest, newest)
	for _, e := range encoded {
		b = append(AppendBatchPrefix(b, len(e)), e...)
	}
	return b
}

// EncodeBatchHeader returns the beginning of an answer. An answer is that, and
// behind it each epoch behind its prefix.
func EncodeBatchHeader(boot [16]byte, oldest, newest uint64) []byte {
	b := protowire.AppendTag(nil, bootField, protowire.BytesType)
	b = protowire.AppendBytes(b, boot[:])
	b = protowire.AppendTag(b, oldestField, protowire.VarintType)
	b = protowire.AppendVarint(b, oldest)
	b = protowire.AppendTag(b, newestField, protowire.VarintType)
	return protowire.AppendVarint(b, newest)
}

// AppendBatchClock appends to the beginning of an answer when its request came in and
// when it goes out. A step of the clock between them counts as if it had been before.
func AppendBatchClock(b []byte, received, sent time.Time) []byte {
	received = sent.Add(-sent.Sub(received))
	b = protowire.AppendTag(b, receivedField, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(received.UnixNano()))
	b = protowire.AppendTag(b, sentField, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(sent.UnixNano()))
}

// AppendBatchPrefix appends what precedes an epoch of so many bytes in an answer.
func AppendBatchPrefix(b []byte, size int) []byte {
	b = protowire.AppendTag(b, epochsField, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(size))
}

// startOnClockOfEnd is the start as the clock would have shown it that shows the end:
// if the clock was set in between, the epoch is as long as it really was.
func (e *Epoch) startOnClockOfEnd() time.Time { return e.End.Add(-e.End.Sub(e.Start)) }

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
	columns := newColumns(len(flows))
	for _, p := range pairUp(flows) {
		appendKey(columns, &flows[p.first])
		appendCounts(columns, &flows[p.first], 0)
		if p.second >= 0 {
			appendCounts(columns, &flows[p.second], reversed)
		}
	}
	columns.Errors, columns.Doubtful = unlessZero(columns.Errors), unlessZero(columns.Doubtful)
	return columns
}

// newColumns returns columns with room for so many flows.
func newColumns(n int) *epochpb.Flows {
	return &epochpb.Flows{
		Sources: make([]byte, 0, 4*n), Destinations: make([]byte, 0, 4*n),
		SourcePorts: make([]uint32, 0, n), DestinationPorts: make([]uint32, 0, n), Protocols: make([]byte, 0, n),
		Directions: make([]byte, 0, n), Packets: make([]uint64, 0, n), Bytes: make([]uint64, 0, n),
		Errors: make([]uint64, 0, n), Doubtful: make([]uint64, 0, n),
	}
}

// unlessZero returns no column if all of it is 0.
func unlessZero(column []uint64) []uint64 {
	if !slices.ContainsFunc(column, func(n uint64) bool { return n != 0 }) {
		return nil
	}
	return column
}

func appendKey(to *epochpb.Flows, f *Flow) {
	from := 0
	if f.familyIPv4() {
		from = 12
		to.Ipv4++
	}
	to.Sources = append(to.Sources, f.Source[from:]...)
	to.Destinations = append(to.Destinations, f.Destination[from:]...)
	to.SourcePorts = append(to.SourcePorts, uint32(f.SourcePort))
	to.DestinationPorts = append(to.DestinationPorts, uint32(f.DestinationPort))
	to.Protocols = append(to.Protocols, f.Protocol)
}

func appendCounts(to *epochpb.Flows, f *Flow, key uint8) {
	to.Directions = append(to.Directions, uint8(f.Direction)|key)
	to.Packets = append(to.Packets, f.Packets)
	to.Bytes = append(to.Bytes, f.Bytes)
	to.Errors = append(to.Errors, f.Error)
	to.Doubtful = append(to.Doubtful, f.Doubtful)
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
	var sizes [129]int // of the levels
	for i := range entries {
		if e := &entries[i]; e.Addr().Is6() == ipv6 {
			sizes[e.Bits()]++
		}
	}
	for i := range entries {
		e := &entries[i]
		if e.Addr().Is6() != ipv6 {
			continue
		}
		level := byLength[e.Bits()]
		if level == nil {
			n := sizes[e.Bits()]
			level = &epochpb.Level{
				PrefixLength: uint32(e.Bits()),
				Prefixes:     make([]byte, 0, n*(e.Bits()+7)/8), Packets: make([]uint64, 0, n), Bytes: make([]uint64, 0, n),
			}
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
			level.Prefixes = transpose(level.Prefixes, (bits+7)/8, len(level.Bytes))
			levels = append(levels, level)
		}
	}
	return levels
}

// transpose returns rows of so many columns as columns of so many rows.
func transpose(rows []byte, columns, n int) []byte {
	turned := make([]byte, 0, len(rows))
	for column := range columns {
		for row := range n {
			turned = append(turned, rows[row*columns+column])
		}
	}
	return turned
}

func encodeNetwork(network netip.Prefix) []byte {
	return append(network.Addr().AsSlice(), uint8(network.Bits()))
}

// directions is the number of flow.Direction values.
const directions = uint8(flow.Egress) + 1
