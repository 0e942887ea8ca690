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
	Exchange       Exchange
}

// Exchange is when a request and its answer went out and came in, each by the clock
// of whoever it was: what the Network Time Protocol needs (RFC 5905, section 8).
// Received and Sent are zero if the exporter doesn't say; Requested and Answered are
// for the reader to fill in.
type Exchange struct{ Requested, Received, Sent, Answered time.Time }

// Known says that all four are there.
func (x *Exchange) Known() bool { return !x.Requested.IsZero() && !x.Received.IsZero() }

// Offset is how far the exporter's clock is ahead of the reader's, give or take half
// of the delay, which is how long both messages were on their way together.
func (x *Exchange) Offset() (offset, delay time.Duration) {
	there, back := x.Received.Sub(x.Requested), x.Sent.Sub(x.Answered)
	return there/2 + back/2, there - back
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
	if message.ReceivedUnixNano > 0 && message.SentUnixNano >= message.ReceivedUnixNano {
		batch.Exchange.Received = time.Unix(0, message.ReceivedUnixNano)
		batch.Exchange.Sent = time.Unix(0, message.SentUnixNano)
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
		if err := e.checkConserved(); err != nil {
			return nil, err
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
		Doubtful: decodeCount(message.Doubtful),
		Hidden:   decodeCount(message.Hidden),

		Exporters: Exporters{Known: message.Exporters.GetKnown(), Up: message.Exporters.GetUp()},
	}
	if e.Sequence == 0 {
		return nil, invalid("sequence 0")
	}
	if e.Exporters.Up > e.Exporters.Known {
		return nil, invalid("epoch %d has %d exporters up of %d", e.Sequence, e.Exporters.Up, e.Exporters.Known)
	}
	if e.End.Before(e.Start) {
		return nil, invalid("epoch %d ends before it starts", e.Sequence)
	}
	if length := e.End.Sub(e.Start); length > maxLength {
		return nil, invalid("epoch %d is %v long, at most %v are read", e.Sequence, length, maxLength)
	}
	decoders := []func(*epochpb.Epoch) error{e.decodeDevices, e.decodeFlows, e.decodeLadders, e.decodeSketches, e.decodeNetworks, e.decodePairs}
	for _, decode := range decoders {
		if err := decode(message); err != nil {
			return nil, err
		}
	}
	return e, e.checkDoubts()
}

// checkDoubts refuses doubts about more than there is.
func (e *Epoch) checkDoubts() error {
	if folded := e.Folded(flow.Source); e.Doubtful.Bytes > folded.Bytes || e.Doubtful.Packets > folded.Packets {
		return invalid("epoch %d has %d doubtful bytes, but %d are folded", e.Sequence, e.Doubtful.Bytes, folded.Bytes)
	}
	if duplicates := e.Duplicates(); e.Hidden.Bytes > duplicates.Bytes || e.Hidden.Packets > duplicates.Packets {
		return invalid("epoch %d has %d hidden bytes, but %d are duplicates", e.Sequence, e.Hidden.Bytes, duplicates.Bytes)
	}
	return nil
}

func (e *Epoch) checkConserved() error {
	for _, dimension := range flow.Dimensions {
		if lost := e.Unaccounted(dimension); lost != (Count{}) {
			return invalid("epoch %d doesn't conserve: %d packets and %d bytes unaccounted by %s",
				e.Sequence, int64(lost.Packets), int64(lost.Bytes), dimension)
		}
	}
	return nil
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

// flowColumnsAgree says whether all columns are of the same number of flows, and
// of keys.
func flowColumnsAgree(c *epochpb.Flows) bool {
	n, keys, ipv4 := len(c.GetDirections()), len(c.GetProtocols()), int(c.GetIpv4())
	addresses := ipv4*4 + (keys-ipv4)*16
	return ipv4 <= keys && len(c.GetSources()) == addresses && len(c.GetDestinations()) == addresses &&
		len(c.GetSourcePorts()) == keys && len(c.GetDestinationPorts()) == keys && keys == ownKeys(c.GetDirections()) &&
		len(c.GetPackets()) == n && len(c.GetBytes()) == n &&
		(len(c.GetErrors()) == n || len(c.GetErrors()) == 0) && (len(c.GetDoubtful()) == n || len(c.GetDoubtful()) == 0)
}

// ownKeys is how many flows aren't another one's reverse.
func ownKeys(directions []byte) (n int) {
	for _, d := range directions {
		if d&reversed == 0 {
			n++
		}
	}
	return n
}

func (e *Epoch) decodeFlows(message *epochpb.Epoch) error {
	c := message.Flows
	if !flowColumnsAgree(c) {
		return invalid("flow columns of different lengths")
	}
	e.Flows = make([]Flow, len(c.GetDirections()))
	keys := flowKeys{columns: c, sources: c.GetSources(), destinations: c.GetDestinations()}
	for i := range e.Flows {
		f, direction := &e.Flows[i], c.Directions[i]
		switch {
		case direction&^reversed >= directions:
			return invalid("flow %d of epoch %d has direction %d", i, e.Sequence, direction)
		case direction&reversed == 0:
			if !keys.next(&f.Key) {
				return invalid("flow %d of epoch %d has a port out of range", i, e.Sequence)
			}
		case i == 0 || c.Directions[i-1]&reversed != 0:
			return invalid("flow %d of epoch %d is the reverse of none", i, e.Sequence)
		default:
			f.Key = reverse(&e.Flows[i-1].Key)
		}
		f.Direction = flow.Direction(direction &^ reversed)
		f.Count = Count{Packets: c.Packets[i], Bytes: c.Bytes[i]}
		if len(c.Errors) > 0 {
			f.Error = c.Errors[i]
		}
		if len(c.Doubtful) > 0 {
			f.Doubtful = c.Doubtful[i]
		}
		if f.Doubtful > f.Bytes {
			return invalid("flow %d of epoch %d has %d doubtful bytes of %d", i, e.Sequence, f.Doubtful, f.Bytes)
		}
	}
	return nil
}

// flowKeys takes keys from columns that agree.
type flowKeys struct {
	columns               *epochpb.Flows
	sources, destinations []byte // that are left
	taken                 int
}

// next takes the next key; it returns false if that has a port out of range.
func (k *flowKeys) next(to *flow.Key) bool {
	c, i, size := k.columns, k.taken, 16
	if i < int(c.Ipv4) {
		size = 4
	}
	k.taken++
	to.Source, k.sources = address16(k.sources[:size]), k.sources[size:]
	to.Destination, k.destinations = address16(k.destinations[:size]), k.destinations[size:]
	to.SourcePort, to.DestinationPort = uint16(c.SourcePorts[i]), uint16(c.DestinationPorts[i])
	to.Protocol = c.Protocols[i]
	return c.SourcePorts[i] <= 0xffff && c.DestinationPorts[i] <= 0xffff
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
		for j := range width {
			address[j] = level.Prefixes[j*n+i]
		}
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
		sketch := Sketch{Of: m.Of, KeyFingerprint: m.KeyFingerprint, HLL: &hll.Sketch{}}
		if err := decodeRegisters(m, sketch.HLL.Bytes()); err != nil {
			return err
		}
		if !sketch.HLL.Valid() {
			return invalid("a register of the sketch of %s is too great", m.Of)
		}
		e.Sketches = append(e.Sketches, sketch)
	}
	return nil
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
