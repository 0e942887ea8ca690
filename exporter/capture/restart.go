package capture

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// pinned is what a capture with a pin path leaves to the next run; nil without one.
type pinned struct {
	pins    *pins
	current *generation
	older   []*generation // of other layouts, not yet booked
	encode  func(*epoch.Epoch) ([]byte, error)
}

// loadPinned takes over what an earlier run pinned, or pins new maps: those of another
// layout are booked once no link leads to them any more.
func loadPinned(config *Config, layout Layout) (*kernel, *pinned, error) {
	pins, err := openPins(config.PinPath)
	if err != nil {
		return nil, nil, err
	}
	layout.JournalBytes = floorPowerOfTwo(int(config.JournalMemory))
	p := &pinned{pins: pins, encode: config.Encode}
	k, err := p.load(layout)
	if err != nil {
		return nil, nil, errors.Join(err, p.close())
	}
	return k, p, nil
}

func (p *pinned) load(layout Layout) (*kernel, error) {
	var err error
	if p.older, err = p.pins.generations(); err != nil {
		return nil, err
	}
	namespace, err := namespaceCookie()
	if err != nil {
		return nil, err
	}
	seed := randomSeed()
	if n := len(p.older); n > 0 {
		h := p.older[n-1].journal.header
		if h.namespace != namespace {
			return nil, fmt.Errorf("pin path %s belongs to an exporter in another network namespace", p.pins.path)
		}
		// Of one seed, so that the flows of both layouts are the same ones.
		seed = h.seed
	}
	spec, err := configuredObject(layout, seed)
	if err != nil {
		return nil, err
	}
	if g := p.newest(); g != nil && g.fits(spec, layout) {
		p.older = p.older[:len(p.older)-1]
		p.current = g
		return p.resume(spec, layout)
	}
	return p.begin(spec, layout, seed, namespace)
}

func (p *pinned) newest() *generation {
	if len(p.older) == 0 {
		return nil
	}
	return p.older[len(p.older)-1]
}

// fits says whether an object can use the generation's maps.
func (g *generation) fits(spec *ebpf.CollectionSpec, layout Layout) bool {
	return g.journal.header.fingerprint == fingerprint(spec) && g.journal.header.getLayout() == layout
}

// resume loads the object with the maps of the current generation.
func (p *pinned) resume(spec *ebpf.CollectionSpec, layout Layout) (*kernel, error) {
	k, err := loadKernel(spec, layout, p.current.maps)
	if err != nil {
		return nil, err
	}
	k.recover(p.current.journal)
	return k, nil
}

// begin loads the object with maps of its own, and pins them.
func (p *pinned) begin(spec *ebpf.CollectionSpec, layout Layout, seed [5]uint64, namespace uint64) (*kernel, error) {
	k, err := loadKernel(spec, layout, nil)
	if err != nil {
		return nil, err
	}
	number := 1
	if g := p.newest(); g != nil {
		number = g.number + 1
	}
	p.current = p.pins.generation(number)
	for name, m := range k.sections {
		if p.current.maps[name], err = m.Clone(); err != nil {
			return nil, errors.Join(err, k.close())
		}
	}
	err = p.current.create(layout, func(j *journal) {
		rand.Read(j.header.boot[:]) // never fails
		j.header.seed = seed
		j.header.commits[0].start = time.Now().UnixNano()
		if g := p.newest(); g != nil {
			j.inherit(g.journal)
		}
		j.header.fingerprint, j.header.namespace = fingerprint(spec), namespace
	})
	if err != nil {
		return nil, errors.Join(err, k.close())
	}
	k.recover(p.current.journal)
	return k, nil
}

// recover brings the kernel's maps to the state after the last committed epoch, as a
// run that is killed may have come to any point before it.
func (k *kernel) recover(j *journal) {
	last := j.last()
	if sequence := j.header.committed.Load(); j.header.cleared.Load() != sequence {
		k.clear(1 - last.halfOf())
		k.ring.consumer.Store(last.consumer)
		j.header.cleared.Store(sequence)
	}
	k.ring.position = k.ring.consumer.Load()
	k.ring.hold(last.taken)
}

// commit makes the epoch of a half final, before anybody sees it: from then on the
// next run won't make it again.
func (c *Capture) commit(e *epoch.Epoch, idle fold.Half) {
	if c.pinned == nil {
		return
	}
	message, err := c.pinned.encode(e)
	if err != nil {
		message = nil // the sink says so
	}
	state := commit{half: uint64(1 - idle), start: e.End.UnixNano()}
	state.consumer, state.taken = c.kernel.ring.afterCommit(idle)
	c.pinned.current.journal.commit(e.Sequence, e.End, message, state)
}

// clear empties the half whose epoch was handed over.
func (c *Capture) clear(idle fold.Half) error {
	c.kernel.clear(idle)
	c.kernel.ring.release(idle)
	if c.pinned == nil {
		return nil
	}
	header := c.pinned.current.journal.header
	header.cleared.Store(header.committed.Load())
	older := c.pinned.older
	c.pinned.older = nil
	return removeGenerations(older)
}

// takeOver books what was counted in the maps of other layouts. No link may lead to
// them any more. They aren't changed: until the epoch is committed, another run would
// book them again.
func (c *Capture) takeOver() error {
	if err := c.kernel.activate(c.half); err != nil { // for its grace period
		return err
	}
	for _, g := range c.pinned.older {
		if err := c.bookGeneration(g); err != nil {
			return fmt.Errorf("take over what was counted with another layout: %w", err)
		}
	}
	return nil
}

func (c *Capture) bookGeneration(g *generation) error {
	old := &kernel{layout: g.journal.header.getLayout()}
	old.objects.Cache, old.objects.PointCounters = g.maps[bpf.CaptureMapCache], g.maps[bpf.CaptureMapPointCounters]
	old.objects.Evictions = g.maps[bpf.CaptureMapEvictions]
	if err := old.mapMemory(); err != nil {
		return errors.Join(err, old.unmap())
	}
	old.recover(g.journal)
	numbers := c.devices.adopt(g.journal.recorded())
	translate := func(point uint16) uint16 {
		return uint16(2*numbers[int(point)/2]) + point&1
	}
	book := func(slot *bpf.CaptureSlot) {
		moved := *slot
		moved.Key.Half, moved.Key.Point = uint8(c.half), translate(slot.Key.Point)
		c.book(&moved)
	}
	old.ring.drainAll(book)
	if c.totals.extra == nil {
		c.totals.extra = make([]pointTotals, c.kernel.layout.points())
	}
	for half := range fold.Half(2) {
		for i := range old.halfSlots(half) {
			if slot := &old.halfSlots(half)[i]; slot.Packets != 0 {
				book(slot)
			}
		}
		old.addCounters(half, func(point int, counters *bpf.CaptureCounters) {
			c.totals.extra[translate(uint16(point))].add(counters)
		})
	}
	return old.unmap()
}

// adopt gives the devices of another layout numbers in this one, and returns them by
// their old numbers.
func (d *devices) adopt(recorded []*device) map[int]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	numbers := map[int]int{}
	for _, r := range recorded {
		known := d.byIndex[r.index]
		if known == nil {
			known = r
			numbers[r.number] = d.freeNumber()
			known.number = numbers[r.number]
			d.take(known)
			continue
		}
		numbers[r.number] = known.number
	}
	return numbers
}

// prune detaches what an earlier run attached and this one doesn't want.
func (d *devices) prune() {
	if d.pinned == nil {
		return
	}
	err := d.pinned.pins.eachLink(func(file string, index int) error {
		if d.isKnown(index) {
			return nil
		}
		return unpinLink(file)
	})
	for _, g := range append(slices.Clone(d.pinned.older), d.pinned.current) {
		for _, r := range g.journal.recorded() {
			if !d.isKnown(r.index) {
				err = errors.Join(err, detachClsact(r.index))
			}
		}
	}
	if err != nil {
		d.logger.Warn("Detaching what an earlier run attached failed", "err", err)
	}
}

func detachClsact(index int) error {
	return errors.Join(clsact{index, flow.Ingress}.Close(), clsact{index, flow.Egress}.Close())
}

func (d *devices) isKnown(index int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.byIndex[index] != nil
}

// close gives up what is pinned, and leaves it where it is.
func (p *pinned) close() error {
	if p == nil {
		return nil
	}
	all := []error{closeGenerations(p.older)}
	if p.current != nil {
		all = append(all, p.current.close())
	}
	return errors.Join(append(all, p.pins.close())...)
}

// Detach detaches and removes all that is pinned under a path, and says from how many
// devices it detached. That nothing is there is no error; that a running exporter uses
// it is one.
func Detach(path string) (detached int, err error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if !inBPFFS(path) {
		return 0, notInBPFFS(path)
	}
	p, err := lockPins(path)
	if err != nil {
		return 0, err
	}
	defer p.close()
	return p.detach()
}

func (p *pins) detach() (int, error) {
	devices := map[int]bool{}
	if err := p.detachFilters(devices); err != nil {
		return 0, err
	}
	err := p.eachLink(func(file string, index int) error {
		devices[index] = true
		return unpinLink(file)
	})
	if err != nil {
		return 0, err
	}
	numbers, err := p.numbers()
	if err != nil {
		return 0, err
	}
	for _, number := range numbers {
		if err := removeMaps(filepath.Join(p.path, fmt.Sprint(mapsDirectory, number))); err != nil {
			return 0, err
		}
	}
	for _, directory := range []string{filepath.Join(p.path, linksDirectory), p.path} {
		if err := os.Remove(directory); err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("remove the pin path: %w", err)
		}
	}
	return len(devices), nil
}

// detachFilters removes the clsact filters of the devices on record. A record that
// another version wrote, or that belongs to another network namespace, isn't used.
func (p *pins) detachFilters(devices map[int]bool) error {
	numbers, err := p.numbers()
	if err != nil {
		return err
	}
	namespace, err := namespaceCookie()
	if err != nil {
		return err
	}
	for _, number := range numbers {
		g := p.generation(number)
		if g.open() != nil || g.journal == nil {
			continue
		}
		if g.journal.header.namespace == namespace {
			for _, r := range g.journal.recorded() {
				if filter, _ := ownFilter(r.index, flow.Ingress); filter != nil {
					devices[r.index] = true
				}
				err = errors.Join(err, detachClsact(r.index))
			}
		}
		err = errors.Join(err, g.close())
	}
	return err
}
