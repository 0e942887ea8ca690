package store

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/traffic-monitor-agent/tma/aggregator/hhh"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

// held is what an epoch says about traffic and who sent it, packed: about 20 bytes
// a flow instead of 72. Its sketches are with its bucket.
type held struct {
	exporter         *exporter
	start, end       time.Time
	networks         []netip.Prefix // shared with the exporter's runs
	remainder        epoch.Count
	doubtful, hidden epoch.Count
	flows            []byte
	ladders          []heldLadder
}

type heldLadder struct {
	dimension flow.Dimension
	class     epoch.Class
	entries   hhh.Packed
}

// newHeld packs an epoch from which the exporter has learned already.
func newHeld(x *exporter, e *epoch.Epoch) held {
	h := held{
		exporter: x, start: e.Start, end: e.End, networks: x.networks, remainder: e.Remainder(), doubtful: e.Doubtful, hidden: e.Hidden,
		flows: packEpoch(e.Flows),
	}
	for i := range e.Ladders {
		ladder := &e.Ladders[i]
		masses := make([]hhh.Mass, len(ladder.Entries))
		for j := range ladder.Entries {
			masses[j] = hhh.Mass{Prefix: hhh.FromNetip(ladder.Entries[j].Prefix), Count: ladder.Entries[j].Count}
		}
		h.ladders = append(h.ladders, heldLadder{ladder.Dimension, ladder.Class, hhh.Pack(hhh.Combine(masses))})
	}
	return h
}

// bytes is the memory that it takes.
func (h *held) bytes() int {
	const itself, ladder = 224, 40
	n := itself + len(h.flows)
	for i := range h.ladders {
		n += ladder + h.ladders[i].entries.Size()
	}
	return n
}

func (h *held) span() span { return span{h.start, h.end} }

func packEpoch(flows []epoch.Flow) []byte {
	b := make([]byte, 0, 24*len(flows))
	var keys keyCoder
	for i := range flows {
		f := &flows[i]
		b = keys.append(b, &f.Key)
		b = append(b, byte(f.Direction))
		b = binary.AppendUvarint(b, f.Packets)
		b = binary.AppendUvarint(b, f.Bytes)
		b = binary.AppendUvarint(b, f.Error)
		b = binary.AppendUvarint(b, f.Doubtful)
	}
	return slices.Clip(slices.Clone(b))
}

// unpack returns the epoch again, its devices as one.
func (h *held) unpack() *epoch.Epoch {
	e := &epoch.Epoch{
		Start: h.start, End: h.end, LocalNetworks: h.networks,
		Doubtful: h.doubtful, Hidden: h.hidden, Devices: []epoch.Device{{Remainder: h.remainder}},
	}
	var keys keyCoder
	for b := h.flows; len(b) > 0; {
		var f epoch.Flow
		b = keys.next(b, &f.Key)
		f.Direction, b = flow.Direction(b[0]), b[1:]
		f.Packets, f.Bytes = uvarint(&b), uvarint(&b)
		f.Error, f.Doubtful = uvarint(&b), uvarint(&b)
		e.Flows = append(e.Flows, f)
	}
	for _, l := range h.ladders {
		ladder := epoch.Ladder{Dimension: l.dimension, Class: l.class}
		for m := range l.entries.All() {
			ladder.Entries = append(ladder.Entries, epoch.Prefix{Prefix: m.Netip(), Count: m.Count})
		}
		e.Ladders = append(e.Ladders, ladder)
	}
	return e
}
