package epoch

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/traffic-monitor-agent/tma/internal/epoch/epochpb"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/sketch/hll"
)

// Batch is one answer of an exporter.
type Batch struct {
	BootID         [16]byte // of the run of the exporter
	Oldest, Newest uint64   // the sequences that it still holds
	Epochs         []*Epoch
}

// Bounds on what small messages can make Decode allocate: a sketch is Registers
// bytes however few of its registers were sent.
const (
	maxEpochs   = 128
	maxSketches = 16
	// Messages within the batch, at any depth: each takes up to some 200 bytes and
	// may be 2 bytes on the wire. An exporter with 1,000 devices has 10,000 an epoch.
	maxMessages = 1 << 20
)

// maxLength is the longest that an epoch may be.
const maxLength = time.Minute

// ErrMessage is at the root of every error of a message that isn't valid; such
// a message is refused whole.
var ErrMessage = errors.New("invalid epoch message")

func invalid(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s", ErrMessage, fmt.Sprintf(format, arguments...))
}

// DecodeBatch is the inverse of EncodeBatch and Encode for a message from the
// network: it checks every length and number, and that each epoch conserves
// bytes in both dimensions. Nothing in the result refers to data.
func DecodeBatch(data []byte) (*Batch, error) {
	if err := checkMessages(data); err != nil {
		return nil, err
	}
	var message epochpb.Batch
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, &message); err != nil {
		return nil, invalid("%v", err)
	}
	batch := &Batch{Oldest: message.OldestSequence, Newest: message.NewestSequence}
	if copy(batch.BootID[:], message.BootId) != len(batch.BootID) || len(message.BootId) != len(batch.BootID) {
		return nil, invalid("a boot id of %d bytes", len(message.BootId))
	}
	if len(message.Epochs) > maxEpochs {
		return nil, invalid("%d epochs, at most %d are read", len(message.Epochs), maxEpochs)
	}
	for _, m := range message.Epochs {
		e, err := decodeEpoch(m)
		if err != nil {
			return nil, err
		}
		if n := len(batch.Epochs); n > 0 && e.Sequence <= batch.Epochs[n-1].Sequence {
			return nil, invalid("epoch %d after epoch %d", e.Sequence, batch.Epochs[n-1].Sequence)
		}
		batch.Epochs = append(batch.Epochs, e)
	}
	return batch, nil
}

func decodeEpoch(message *epochpb.Epoch) (*Epoch, error) {
	if message.Version != Version {
		return nil, invalid("version %d, this program reads version %d", message.Version, Version)
	}
	e := &Epoch{
		Host:     message.Host,
		Sequence: message.Sequence,
		Start:    time.Unix(0, message.StartUnixNano),
		End:      time.Unix(0, message.EndUnixNano),
	}
	if e.Sequence == 0 {
		return nil, invalid("sequence 0")
	}
	if e.End.Before(e.Start) {
		return nil, invalid("epoch %d ends before it starts", e.Sequence)
	}
	if length := e.End.Sub(e.Start); length > maxLength {
		return nil, invalid("epoch %d is %v long, at most %v are read", e.Sequence, length, maxLength)
	}
	decoders := []func(*epochpb.Epoch) error{e.decodeDevices, e.decodeFlows, e.decodeLadders, e.decodeSketches, e.decodeNetworks}
	for _, decode := range decoders {
		if err := decode(message); err != nil {
			return nil, err
		}
	}
	for _, dimension := range flow.Dimensions {
		if lost := e.Unaccounted(dimension); lost != (Count{}) {
			return nil, invalid("epoch %d doesn't conserve: %d packets and %d bytes unaccounted by %s",
				e.Sequence, int64(lost.Packets), int64(lost.Bytes), dimension)
		}
	}
	return e, nil
}

func decodeCount(message *epochpb.Count) Count {
	return Count{Packets: message.GetPackets(), Bytes: message.GetBytes()}
}

func (e *Epoch) decodeDevices(message *epochpb.Epoch) error {
	for _, m := range message.Devices {
		if m.Direction < 0 || m.Direction >= epochpb.Direction(directions) {
			return invalid("direction %d", m.Direction)
		}
		device := Device{
			Name:      m.Name,
			Direction: flow.Direction(m.Direction),
			Total:     decodeCount(m.Total),
			Duplicate: decodeCount(m.Duplicate),
			Remainder: decodeCount(m.Remainder),
		}
		for _, other := range m.Others {
			device.Others = append(device.Others, Reason{Reason: other.Reason, Count: decodeCount(other.Count)})
		}
		e.Devices = append(e.Devices, device)
	}
	return nil
}

// flowColumnsAgree says whether all columns are of the same number of flows.
func flowColumnsAgree(c *epochpb.Flows, n int) bool {
	addresses := int(c.GetIpv4())*4 + (n-int(c.GetIpv4()))*16
	return int(c.GetIpv4()) <= n && len(c.GetSources()) == addresses && len(c.GetDestinations()) == addresses &&
		len(c.GetSourcePorts()) == n && len(c.GetDestinationPorts()) == n && len(c.GetDirections()) == n &&
		len(c.GetPackets()) == n && len(c.GetBytes()) == n && (len(c.GetErrors()) == n || len(c.GetErrors()) == 0)
}

func (e *Epoch) decodeFlows(message *epochpb.Epoch) error {
	c := message.Flows
	n := len(c.GetProtocols())
	if !flowColumnsAgree(c, n) {
		return invalid("flow columns of different lengths")
	}
	e.Flows = make([]Flow, n)
	sources, destinations := c.GetSources(), c.GetDestinations()
	for i := range e.Flows {
		size := 16
		if i < int(c.Ipv4) {
			size = 4
		}
		if c.SourcePorts[i] > 0xffff || c.DestinationPorts[i] > 0xffff || c.Directions[i] >= directions {
			return invalid("flow %d of epoch %d has a port or a direction out of range", i, e.Sequence)
		}
		f := &e.Flows[i]
		f.Source, sources = address16(sources[:size]), sources[size:]
		f.Destination, destinations = address16(destinations[:size]), destinations[size:]
		f.SourcePort, f.DestinationPort = uint16(c.SourcePorts[i]), uint16(c.DestinationPorts[i])
		f.Protocol, f.Direction = c.Protocols[i], flow.Direction(c.Directions[i])
		f.Count = Count{Packets: c.Packets[i], Bytes: c.Bytes[i]}
		if len(c.Errors) > 0 {
			f.Error = c.Errors[i]
		}
	}
	return nil
}

// address16 returns an address of 4 or 16 bytes, IPv4 as IPv4-mapped.
func address16(b []byte) [16]byte {
	if len(b) == 4 {
		return netip.AddrFrom4([4]byte(b)).As16()
	}
	return [16]byte(b)
}

func (e *Epoch) decodeLadders(message *epochpb.Epoch) error {
	for _, m := range message.Ladders {
		if m.Dimension < 0 || int(m.Dimension) >= len(flow.Dimensions) || m.Class < 0 || m.Class >= epochpb.Class(classes) {
			return invalid("a ladder of dimension %d and class %d", m.Dimension, m.Class)
		}
		ladder := Ladder{Dimension: flow.Dimension(m.Dimension), Class: Class(m.Class)}
		for _, level := range m.Levels {
			entries, err := decodeLevel(level, m.Ipv6)
			if err != nil {
				return err
			}
			ladder.Entries = append(ladder.Entries, entries...)
		}
		e.Ladders = append(e.Ladders, ladder)
	}
	return nil
}

func decodeLevel(level *epochpb.Level, ipv6 bool) ([]Prefix, error) {
	var address [16]byte
	size := 4
	if ipv6 {
		size = 16
	}
	bits, n := int(level.PrefixLength), len(level.Packets)
	width := (bits + 7) / 8
	if width > size || level.PrefixLength > 128 || len(level.Prefixes) != n*width || len(level.Bytes) != n {
		return nil, invalid("ladder columns of level /%d", level.PrefixLength)
	}
	entries := make([]Prefix, n)
	for i := range entries {
		clear(address[:])
		copy(address[:], level.Prefixes[i*width:(i+1)*width])
		parsed, _ := netip.AddrFromSlice(address[:size])
		prefix := netip.PrefixFrom(parsed, bits)
		if prefix != prefix.Masked() {
			return nil, invalid("prefix %v has bits set behind its length", prefix)
		}
		entries[i] = Prefix{Prefix: prefix, Count: Count{Packets: level.Packets[i], Bytes: level.Bytes[i]}}
	}
	return entries, nil
}

func (e *Epoch) decodeSketches(message *epochpb.Epoch) error {
	if len(message.Sketches) > maxSketches {
		return invalid("%d sketches, at most %d are read", len(message.Sketches), maxSketches)
	}
	for _, m := range message.Sketches {
		if m.Precision != hll.Precision {
			return invalid("a sketch of %s of precision %d, this program reads %d", m.Of, m.Precision, hll.Precision)
		}
		registers, err := decodeRegisters(m)
		if err != nil {
			return err
		}
		sketch := Sketch{Of: m.Of, KeyFingerprint: m.KeyFingerprint, HLL: &hll.Sketch{}}
		if err := sketch.HLL.MergeBytes(registers[:]); err != nil {
			return invalid("sketch of %s: %v", m.Of, err)
		}
		e.Sketches = append(e.Sketches, sketch)
	}
	return nil
}

func decodeRegisters(m *epochpb.Sketch) (*[hll.Registers]byte, error) {
	var registers [hll.Registers]byte
	if len(m.IndexDeltas) != len(m.Values) {
		return nil, invalid("sketch columns of %s of different lengths", m.Of)
	}
	index := uint64(0)
	for i, delta := range m.IndexDeltas {
		index += uint64(delta)
		if index >= hll.Registers || (i > 0 && delta == 0) {
			return nil, invalid("register %d of the sketch of %s", index, m.Of)
		}
		registers[index] = m.Values[i]
	}
	return &registers, nil
}

func (e *Epoch) decodeNetworks(message *epochpb.Epoch) error {
	for _, b := range message.LocalNetworks {
		if len(b) != 5 && len(b) != 17 {
			return invalid("a local network of %d bytes", len(b))
		}
		address, _ := netip.AddrFromSlice(b[:len(b)-1])
		network := netip.PrefixFrom(address, int(b[len(b)-1]))
		if !network.IsValid() {
			return invalid("a local network with prefix length %d", b[len(b)-1])
		}
		e.LocalNetworks = append(e.LocalNetworks, network)
	}
	return nil
}
