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
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"regexp"
	"sync/atomic"
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
	Include, Exclude *regexp.Regexp // names of interfaces; nil: all, none
	Layer3           *regexp.Regexp // of those, which count that aren't Ethernet; nil: none
	Epoch            time.Duration
	Memory           uint64         // bytes, for the kernel's maps and the tables
	Fleet            []netip.Prefix // where all monitored hosts are
	Host             string         // the name that epochs carry
	Key              siphash.Key    // of what leaves the host

	// PinPath is a directory in a BPF file system. What is counted there goes on
	// when the process ends, however it does, and the next run takes it over;
	// Detach ends it. Empty: everything ends with the process.
	PinPath string
	// Encode makes the message of an epoch, JournalMemory bytes of which outlive
	// the process, too. Both are needed with PinPath alone.
	Encode        func(*epoch.Epoch) ([]byte, error)
	JournalMemory uint64

	clsact bool         // attach as on a kernel without tcx, for tests
	at     func(moment) // called at each moment, where a test may end the run
}

// Evictions are taken from the ring buffer every pollInterval, often enough that a tenth
// of the ring holds what comes meanwhile. While next to nothing comes they are taken less
// often, which wakes the processor less: at most every idleInterval, and half the ring
// holds a flood that begins then, of a million evictions a second.
const (
	pollInterval = 25 * time.Millisecond
	idleInterval = 4 * pollInterval
)

// Capture is a loaded program, attached to interfaces while Run runs.
type Capture struct {
	config   Config
	logger   *slog.Logger
	kernel   *kernel
	ledger   *fold.Ledger
	batch    batch
	totals   *totals
	devices  *devices
	pinned   *pinned // nil without a pin path
	boot     [16]byte
	half     fold.Half // that the kernel writes to
	sequence uint64
	start    time.Time // of the epoch
	measured Health    // of the epoch that ends
	ringPeak peak
	health   atomic.Pointer[Health]
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
	c := &Capture{config: config, logger: logger}
	if err := c.load(layout); err != nil {
		return nil, err
	}
	c.ledger = newLedger(layout, config.Key, c.sequence > 0)
	c.totals = newTotals(c.kernel)
	c.devices = newDevices(c.kernel, config, c.pinned, logger)
	return c, nil
}

// load loads the program, and finds where an earlier run stopped.
func (c *Capture) load(layout Layout) (err error) {
	if c.config.PinPath == "" {
		rand.Read(c.boot[:]) // never fails
		c.start = time.Now()
		spec, err := configuredObject(layout, randomSeed())
		if err != nil {
			return err
		}
		c.kernel, err = loadKernel(spec, layout, nil)
		return err
	}
	if c.kernel, c.pinned, err = loadPinned(&c.config, layout); err != nil {
		return err
	}
	j := c.pinned.current.journal
	last := j.last()
	c.boot, c.sequence = j.header.boot, j.header.committed.Load()
	c.half, c.start = last.halfOf(), time.Unix(0, last.start)
	return nil
}

// Boot identifies the run for aggregators. One that takes over from another has the
// same, and goes on with its sequence.
func (c *Capture) Boot() [16]byte { return c.boot }

// Kept returns the epochs of earlier runs that are still there, oldest first.
func (c *Capture) Kept() []Kept {
	if c.pinned == nil {
		return nil
	}
	return c.pinned.current.journal.kept()
}

// newLedger returns a ledger that resumes what another run's may have counted.
func newLedger(layout Layout, key siphash.Key, resumes bool) *fold.Ledger {
	c := layout.ledger()
	c.Key, c.Resumes = key, resumes
	return fold.NewLedger(c)
}

// Attachments lists where the program is attached. Safe for concurrent use.
func (c *Capture) Attachments() []Attachment { return c.devices.attachments() }

// Reload takes over Include, Exclude, Layer3 and Fleet of a configuration while Run runs.
// Where the program stays attached no packet is missed. Safe for concurrent use.
func (c *Capture) Reload(config Config) error { return c.devices.reload(config) }

// Close detaches and unloads the program; with a pin path it leaves both. No epoch can
// be used any more.
func (c *Capture) Close() error {
	defer c.ledger.Free()
	return errors.Join(c.devices.close(), c.kernel.close(), c.pinned.close())
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
	if err := c.resume(sink); err != nil {
		return err
	}
	// Attaching and detaching take seconds with many devices, in which more and
	// more is counted.
	detached := make(chan error, 1)
	go func() { detached <- c.devices.run(watching) }()
	poll := time.NewTimer(0)
	defer poll.Stop()
	next := c.boundary(time.Now())
	ending := ctx.Done()
	for {
		select {
		case <-ending:
			stop()
			ending = nil
		case err := <-detached:
			return errors.Join(err, c.endEpoch(sink))
		case now := <-poll.C:
			if !now.Before(next) || c.kernel.ring.crowded() {
				if err := c.endEpoch(sink); err != nil {
					return err
				}
				next = c.boundary(time.Now())
			} else {
				c.kernel.ring.drain(c.book)
			}
			poll.Reset(c.untilPoll(next))
		}
	}
}

// untilPoll is how long the ring may be left alone: by what came into it since the last
// call, and not beyond the end of the epoch.
func (c *Capture) untilPoll(next time.Time) time.Duration {
	interval := pollInterval
	if c.kernel.ring.idle() {
		interval = max(interval, min(idleInterval, c.kernel.ring.halfFull(1_000_000)))
	}
	return max(min(interval, c.config.Epoch/4, time.Until(next)), 0)
}

// resume hands over what was counted since an earlier run, as an epoch of its own.
func (c *Capture) resume(sink Sink) error {
	if c.pinned == nil {
		c.start = time.Now()
		return nil
	}
	if len(c.pinned.older) > 0 {
		if err := c.devices.sync(); err != nil {
			return err
		}
		if err := c.takeOver(); err != nil {
			return err
		}
	}
	return c.endEpoch(sink)
}

// moment is a point in the life of an epoch.
type moment int

// The moments at which a test ends a run.
const (
	swapped moment = iota
	drained
	booked
	committed
	handedOver
	cleared
	moments
)

func (c *Capture) reach(m moment) {
	if c.config.at != nil {
		c.config.at(m)
	}
}

// boundary returns the end of the epoch that t is in: multiples of the epoch since
// the zero time, so that the epochs of a fleet coincide.
func (c *Capture) boundary(t time.Time) time.Time {
	return t.Truncate(c.config.Epoch).Add(c.config.Epoch)
}

// endEpoch swaps the halves and hands over the one that is idle now.
func (c *Capture) endEpoch(sink Sink) error {
	end, idle := time.Now(), c.half
	if err := c.kernel.activate(1 - idle); err != nil {
		return err
	}
	c.half = 1 - idle
	c.reach(swapped)
	c.kernel.ring.drainAll(c.book)
	c.reach(drained)
	c.bookSlots(idle)
	c.bookBatch()
	e := c.closeBooks(idle)
	c.sequence++
	e.Sequence, e.Start, e.End = c.sequence, c.start, end
	c.publish(end)
	c.start = end
	c.reach(booked)
	c.commit(e, idle)
	c.reach(committed)
	sink(e, time.Since(end))
	c.reach(handedOver)
	err := c.clear(idle)
	c.reach(cleared)
	c.ledger.Reset(idle)
	return err
}

// bookSlots books an idle half of the cache.
func (c *Capture) bookSlots(h fold.Half) {
	slots := c.kernel.halfSlots(h)
	c.measured.CacheEntries = 0
	for i := range slots {
		if slots[i].Packets != 0 {
			c.book(&slots[i])
			c.measured.CacheEntries++
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
	c.measured.noteTable(c.ledger.Occupancy(h))
	return &epoch.Epoch{
		Host:          c.config.Host,
		Devices:       c.devices.report(c.totals.take(h), books.Duplicates),
		Flows:         books.Flows,
		Ladders:       books.Ladders,
		Sketches:      books.Sketches,
		FoldedFlows:   books.Folded,
		LocalNetworks: c.devices.localNetworks(),
		Doubtful:      books.Doubtful,
		Hidden:        books.Hidden,
		Pairs:         books.Pairs,
	}
}
