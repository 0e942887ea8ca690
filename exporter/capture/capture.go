// Package capture counts every packet of the host's interfaces by flow, in the
// kernel, and hands over what was seen, epoch by epoch, to the byte.
//
// The kernel program (package bpf) counts in one half of a flow cache. At the end
// of an epoch the halves are swapped; after an RCU grace period nobody writes to
// the idle half, which is read and cleared through mapped memory. What left the
// cache before that came through a ring buffer, which is polled meanwhile.
package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"regexp"
	"time"

	"github.com/cilium/ebpf"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
	"github.com/traffic-monitor-agent/tma/internal/siphash"
)

// Config says what to capture.
type Config struct {
	Include, Exclude *regexp.Regexp // names of Ethernet interfaces; nil: all, none
	Epoch            time.Duration
	Memory           uint64         // bytes, for the kernel's maps and the tables
	Fleet            []netip.Prefix // where all monitored hosts are
	Host             string         // the name that epochs carry
	Key              siphash.Key    // of what leaves the host
}

// pollInterval is how often evictions are taken from the ring buffer: often enough
// that a tenth of the ring holds what comes meanwhile.
const pollInterval = 25 * time.Millisecond

// Capture is a loaded program, attached to interfaces while Run runs.
type Capture struct {
	config   Config
	logger   *slog.Logger
	kernel   *kernel
	ledger   *fold.Ledger
	batch    batch
	totals   *totals
	devices  *devices
	half     fold.Half // that the kernel writes to
	sequence uint64
	start    time.Time // of the epoch
}

// New loads the program. Without the privilege it returns a CapabilityError.
func New(config Config, logger *slog.Logger) (*Capture, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the CPUs: %w", err)
	}
	layout, err := newLayout(config.Memory, cpus)
	if err != nil {
		return nil, err
	}
	k, err := loadKernel(layout)
	if err != nil {
		return nil, err
	}
	return &Capture{
		config:  config,
		logger:  logger,
		kernel:  k,
		ledger:  newLedger(layout, config.Key),
		totals:  newTotals(k),
		devices: newDevices(k, config, logger),
	}, nil
}

func newLedger(layout Layout, key siphash.Key) *fold.Ledger {
	c := layout.ledger()
	c.Key = key
	return fold.NewLedger(c)
}

// Attachments lists where the program is attached. Safe for concurrent use.
func (c *Capture) Attachments() []Attachment { return c.devices.attachments() }

// Close detaches and unloads the program. No epoch can be used any more.
func (c *Capture) Close() error {
	defer c.ledger.Free()
	return errors.Join(c.devices.close(), c.kernel.close())
}

// Sink takes an epoch and how long it took to close. The epoch, and everything in
// it, is valid only during the call.
type Sink func(e *epoch.Epoch, drain time.Duration)

// Run attaches to the interfaces, those to come included, and hands each epoch to
// the sink. When the context ends it detaches, hands over the last, shorter epoch
// and returns nil.
func (c *Capture) Run(ctx context.Context, sink Sink) error {
	watching, stop := context.WithCancel(context.Background())
	defer stop()
	if err := c.devices.start(watching); err != nil {
		return err
	}
	poll := time.NewTicker(min(pollInterval, c.config.Epoch/4))
	defer poll.Stop()
	c.start = time.Now()
	next := c.boundary(c.start)
	for {
		select {
		case <-ctx.Done():
			stop()
			c.devices.detach()
			return c.endEpoch(sink)
		case now := <-poll.C:
			if !now.Before(next) {
				if err := c.endEpoch(sink); err != nil {
					return err
				}
				next = c.boundary(time.Now())
			} else {
				c.kernel.ring.drain(c.book)
			}
		}
	}
}

// boundary returns the end of the epoch that t is in: multiples of the epoch since
// the zero time, so that the epochs of a fleet coincide.
func (c *Capture) boundary(t time.Time) time.Time {
	return t.Truncate(c.config.Epoch).Add(c.config.Epoch)
}

// endEpoch swaps the halves and hands over the one that is idle now.
func (c *Capture) endEpoch(sink Sink) error {
	began, idle := time.Now(), c.half
	if err := c.kernel.activate(1 - idle); err != nil {
		return err
	}
	c.half = 1 - idle
	end := time.Now()
	c.kernel.ring.drainAll(c.book)
	c.bookSlots(idle)
	c.bookBatch()
	e := c.closeBooks(idle)
	c.sequence++
	e.Sequence, e.Start, e.End = c.sequence, c.start, end
	c.start = end
	sink(e, time.Since(began))
	c.ledger.Reset(idle)
	return nil
}

// bookSlots books and empties an idle half of the cache.
func (c *Capture) bookSlots(h fold.Half) {
	slots := c.kernel.halfSlots(h)
	for i := range slots {
		if slots[i].Packets != 0 {
			c.book(&slots[i])
			slots[i].Packets = 0
		}
	}
}

// batch is records on their way to the ledger, which takes many together for less
// than one after the other.
type batch struct {
	records [32]fold.Record
	halves  [32]fold.Half
	n       int
}

// book books one of the kernel's slots, with the next bookBatch at the latest.
func (c *Capture) book(slot *bpf.CaptureSlot) {
	b := &c.batch
	b.halves[b.n] = fold.Half(slot.Key.Half)
	b.records[b.n] = fold.Record{
		Key: flow.Key{
			Source:          slot.Key.Source,
			Destination:     slot.Key.Destination,
			SourcePort:      bits.ReverseBytes16(slot.Key.SourcePort), // the object is little-endian
			DestinationPort: bits.ReverseBytes16(slot.Key.DestinationPort),
			Protocol:        slot.Key.Protocol,
		},
		Point: slot.Key.Point,
		Hash:  slot.Hash,
		Count: epoch.Count{Packets: slot.Packets, Bytes: slot.Bytes},
	}
	if b.n++; b.n == len(b.records) {
		c.bookBatch()
	}
}

// bookBatch books what waits.
func (c *Capture) bookBatch() {
	b := &c.batch
	c.ledger.AddBatch(b.halves[:b.n], b.records[:b.n])
	b.n = 0
}

// closeBooks makes the epoch of an idle half.
func (c *Capture) closeBooks(h fold.Half) *epoch.Epoch {
	c.devices.prepare(c.ledger)
	books := c.ledger.Close(h)
	return &epoch.Epoch{
		Host:          c.config.Host,
		Devices:       c.devices.report(c.totals.take(h), books.Duplicates),
		Flows:         books.Flows,
		Ladders:       books.Ladders,
		Sketches:      books.Sketches,
		LocalNetworks: c.devices.localNetworks(),
	}
}
