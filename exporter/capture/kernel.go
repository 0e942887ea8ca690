package capture

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/traffic-monitor-agent/tma/bpf"
	"github.com/traffic-monitor-agent/tma/internal/fold"
)

// kernel is the loaded program with its maps, those that are read each epoch
// mapped into memory. Its memory is the kernel's and is gone after close.
type kernel struct {
	objects  bpf.CaptureObjects
	layout   Layout
	slots    []bpf.CaptureSlot     // both halves
	counters []bpf.CaptureCounters // both halves
	ring     *ring
	grace    *ebpf.Map            // what the map-in-map is updated with
	sections map[string]*ebpf.Map // those of pinnedMaps, by name
	mapped   [][]byte
}

// loadKernel loads the programs of a configured object, with maps of its own or with
// those that are given, which stay the caller's.
func loadKernel(spec *ebpf.CollectionSpec, layout Layout, given map[string]*ebpf.Map) (*kernel, error) {
	all, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: given})
	if err != nil {
		return nil, explainLoadError(err)
	}
	defer all.Close()
	k := &kernel{layout: layout, sections: map[string]*ebpf.Map{}}
	for name := range pinnedMaps {
		if k.sections[name], err = all.Maps[name].Clone(); err != nil {
			return nil, errors.Join(err, k.close())
		}
	}
	if err := all.Assign(&k.objects); err != nil {
		return nil, errors.Join(fmt.Errorf("load the capture program: %w", err), k.close())
	}
	if k.grace, err = ebpf.NewMap(spec.Maps[bpf.CaptureMapGrace].InnerMap); err != nil {
		return nil, errors.Join(fmt.Errorf("create the map of the grace period: %w", err), k.close())
	}
	if err := k.mapMemory(); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

// configuredObject reads the object and sets map sizes and constants.
func configuredObject(layout Layout, seed [5]uint64) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadCapture()
	if err != nil {
		return nil, fmt.Errorf("read the capture program: %w", err)
	}
	cache, counters := spec.Maps[bpf.CaptureMapCache], spec.Maps[bpf.CaptureMapPointCounters]
	cache.MaxEntries, cache.ValueSize = uint32(2*layout.CPUs), uint32(layout.cpuSlots())*uint32(unsafe.Sizeof(bpf.CaptureSlot{}))
	counters.MaxEntries, counters.ValueSize = uint32(2*layout.CPUs), uint32(layout.points())*uint32(unsafe.Sizeof(bpf.CaptureCounters{}))
	spec.Maps[bpf.CaptureMapEvictions].MaxEntries = uint32(layout.RingBytes)
	rt, err := preemptRT()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's version: %w", err)
	}
	knobs := map[string]any{
		bpf.CaptureVarPreemptRt:    flag(rt),
		bpf.CaptureVarPossibleCpus: uint32(layout.CPUs),
		bpf.CaptureVarCacheSets:    uint32(layout.Sets),
		bpf.CaptureVarPoints:       uint32(layout.points()),
		bpf.CaptureVarSeed:         seed,
	}
	for name, value := range knobs {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	return spec, nil
}

// randomSeed makes a seed of the flow hash.
func randomSeed() (seed [5]uint64) {
	for i := range seed {
		var word [8]byte
		rand.Read(word[:]) // never fails
		seed[i] = binary.NativeEndian.Uint64(word[:])
	}
	return seed
}

// flag is the value of a knob that is on or off.
func flag(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}

// explainLoadError says what to grant or what the kernel lacks.
func explainLoadError(err error) error {
	if missing := missingCapabilities(); errors.Is(err, os.ErrPermission) && len(missing) > 0 {
		return &CapabilityError{Missing: missing}
	}
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		return fmt.Errorf("the kernel's verifier refused the capture program: %+v", verifier)
	}
	return fmt.Errorf("load the capture program: %w", err)
}

func (k *kernel) mapMemory() error {
	var err error
	if k.slots, err = mapArray[bpf.CaptureSlot](k, k.objects.Cache); err != nil {
		return err
	}
	if k.counters, err = mapArray[bpf.CaptureCounters](k, k.objects.PointCounters); err != nil {
		return err
	}
	k.ring, err = openRing(k.objects.Evictions)
	return err
}

// mapArray maps a whole array map as a slice of its values, or of their parts.
func mapArray[T any](k *kernel, m *ebpf.Map) ([]T, error) {
	size := int(m.MaxEntries()) * int(m.ValueSize())
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %v into memory: %w", m, err)
	}
	k.mapped = append(k.mapped, memory)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), size/int(unsafe.Sizeof(*new(T)))), nil
}

// activate makes the program count in a half, and returns when no run that still
// counts in the other one is under way.
func (k *kernel) activate(h fold.Half) error {
	if err := k.objects.ActiveHalf.Set(uint32(h)); err != nil {
		return fmt.Errorf("swap the halves of the flow cache: %w", err)
	}
	if err := k.objects.Grace.Put(uint32(0), k.grace); err != nil {
		return fmt.Errorf("wait for a grace period: %w", err)
	}
	return nil
}

// halfSlots returns the cache of all CPUs in one half.
func (k *kernel) halfSlots(h fold.Half) []bpf.CaptureSlot {
	n := k.layout.cacheSlots()
	return k.slots[int(h)*n : (int(h)+1)*n]
}

// halfCounters returns the counters of one CPU in one half, by point.
func (k *kernel) halfCounters(h fold.Half, cpu int) []bpf.CaptureCounters {
	n := k.layout.points()
	first := (int(h)*k.layout.CPUs + cpu) * n
	return k.counters[first : first+n]
}

// clear empties an idle half, once it is booked.
func (k *kernel) clear(h fold.Half) {
	slots := k.halfSlots(h)
	for i := range slots {
		if slots[i].Packets != 0 {
			slots[i].Packets = 0
		}
	}
	for cpu := range k.layout.CPUs {
		counters := k.halfCounters(h, cpu)
		for i := range counters {
			if counters[i].Total.Packets != 0 {
				counters[i] = bpf.CaptureCounters{}
			}
		}
	}
}

// close unloads everything; the programs run on while links hold them.
func (k *kernel) close() error {
	all := []error{k.unmap(), k.grace.Close()}
	for _, m := range k.sections {
		all = append(all, m.Close())
	}
	return errors.Join(append(all, k.objects.Close())...)
}

// unmap gives the mapped memory back.
func (k *kernel) unmap() error {
	var all []error
	if k.ring != nil {
		all = append(all, k.ring.close())
	}
	for _, memory := range k.mapped {
		all = append(all, unix.Munmap(memory))
	}
	k.ring, k.mapped = nil, nil
	return errors.Join(all...)
}

// directDevices is DIRECT_DEVICES of bpf/maps.h.
func (k *kernel) directDevices() uint32 { return k.objects.Devices.MaxEntries() }

// announce tells the program the points of a device.
func (k *kernel) announce(d *device) error {
	m := k.objects.Devices
	if uint32(d.index) >= k.directDevices() {
		m = k.objects.DistantDevices
	}
	if err := m.Put(uint32(d.index), d.announcement()); err != nil {
		return fmt.Errorf("announce device %s to the program: %w", d.name, err)
	}
	return nil
}
